"""What people do with finished runs: look them up, verify tables, sweep up. The run itself is `pipeline`."""
