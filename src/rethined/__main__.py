"""`python -m rethined`."""

from rethined.cli import main

main()
