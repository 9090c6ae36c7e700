"""`python -m scripts.prune`."""

import sys

from scripts.cli import main

main(["prune", *sys.argv[1:]])
