"""Compares our predictor with other model servers, on the same model in one run: `python -m tests.bench.serving`.

Each server has one worker on one core, and the load generator has another core. Rounds alternate, and only the measured
server runs. Before each measurement, its answers are compared with those of the booster, to the last bit.
services/predictor/README.md explains the tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ci.common.console import main
from tests.bench.serving.comparison import SERVERS, TREES, bench


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=list(SERVERS), help="servers to measure")
    parser.add_argument("--rounds", type=int, help="default: 3; 1 with --quick")
    parser.add_argument("--seconds", type=int, help="seconds of each measurement (default: 10; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="check that everything works, without useful figures")
    parser.add_argument("--trees", type=int, default=TREES, help="trees of the model (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    seconds, rounds = options.seconds or (1 if options.quick else 10), options.rounds or (1 if options.quick else 3)
    bench(options.only, seconds, rounds, options.trees, options.json)


if __name__ == "__main__":
    main(_main)
