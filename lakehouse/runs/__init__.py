"""What a run leaves and how it is finished: intents, leases, the ledger, evidence, drift's baselines, publication."""
