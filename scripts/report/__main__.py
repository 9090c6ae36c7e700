"""`python -m scripts.report`."""

import sys

from scripts.cli import main

main(["report", *sys.argv[1:]])
