"""One client a system: Delta tables, Snowflake, the Spark session; and the digest of rows that is the same in any.

Nothing here knows of jobs or runs: what is done with a system for a run is in `sources` and `sinks`.
"""
