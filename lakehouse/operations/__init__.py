"""What people do with finished runs: look them up, score their quarantine again, verify tables, sweep up.

Each module is one such act, called by a command of the same name or nearly so. The run itself is `pipeline`; how what
is found is shown to people is in `views`.
"""
