"""What a run leaves and how it is finished: intents, leases, the ledger, evidence, drift's baselines, publication.

These are files and tables in the job's state folder and beside staged files. What a system's own table remembers of
published runs is in `sinks`; how records and evidence are drawn is in `views`.
"""
