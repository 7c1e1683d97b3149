"""spark-submit jobs/score.py CONF [--date D] …: the options of `lakehouse score`, on the submitted session."""

import sys

from lakehouse.cli.commands import main

if __name__ == "__main__":
    try:
        main(["score", *sys.argv[1:]])
    except SystemExit as end:
        if end.code:  # Databricks takes the SystemExit of a success for a failure, too
            raise
