"""Command line of the predictor: `python -m predictor batch --input ... --output ...`.

Exit codes: 0 done; 1 failed, with one sentence on standard error and no output file; 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from core.errors import HouseError
from core.settings import load
from predictor.batch import job
from predictor.settings import BatchSettings

_LOCATIONS = "s3://bucket/key (needs S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY), file:///path, or a path"


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(
        prog="python -m predictor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    batch = top.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser(
        "batch",
        help="price the listings of a file",
        description=f"{job.__doc__}\nThe model is the version of MODEL_NAME that has the alias MODEL_ALIAS in the "
        "MLflow server at MLFLOW_TRACKING_URI.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    batch.add_argument("--input", required=True, help=f"Parquet, or CSV with a header: {_LOCATIONS}")
    batch.add_argument("--output", required=True, help="Parquet; same forms of location as --input")
    batch.add_argument("--version", default="", help="version of the model (default: the version with the alias)")
    batch.add_argument(
        "--prefix", default="", help="prefix for the added columns, if the input already has columns of these names"
    )
    return top


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    arguments = parser().parse_args(words)
    try:
        settings = load(BatchSettings, "fastapi.config")
        result = job.run(
            settings, arguments.input, arguments.output, arguments.version, arguments.prefix, _print_progress
        )
    except HouseError as error:
        _print_progress(f"failed: {error}")
        return 1
    rate = result.rows / max(result.seconds, 1e-9)
    print(
        f"{result.rows:,} rows in {result.seconds:.1f} s ({rate:,.0f} rows/s), {result.without_price:,} without a "
        f"price: {result.uri}"
    )
    return 0


def _print_progress(message: str) -> None:
    print(f"batch: {message}", file=sys.stderr, flush=True)
