"""`python -m lakehouse.cli`: the command line without its script."""

from lakehouse.cli import main

main()
