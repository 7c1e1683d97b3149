"""spark-submit jobs/backfill.py CONF --from D --to D …: as `lakehouse backfill`, on the submitted session."""

import sys

from lakehouse.cli.commands import main

if __name__ == "__main__":
    main(["backfill", *sys.argv[1:]])
