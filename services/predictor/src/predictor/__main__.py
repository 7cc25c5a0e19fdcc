"""Starts the command line: `python -m predictor batch --input ... --output ...`."""

from __future__ import annotations

import sys

from predictor.command_line import main

if __name__ == "__main__":
    sys.exit(main())
