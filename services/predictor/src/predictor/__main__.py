"""What the predictor does beside answering requests: `python -m predictor batch --input ... --output ...`.

Exit codes: 0 done, 1 failed, with one sentence on standard error and nothing written, 2 called wrongly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from core.errors import HouseError
from core.settings import load
from predictor import batch
from predictor.settings import BatchSettings

_PLACES = "s3://bucket/key (with S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY), file:///path, or a path"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m predictor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    one = top.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser(
        "batch",
        help="price the listings of a file",
        description=f"{batch.__doc__}\nThe model is that of MODEL_NAME at MLFLOW_TRACKING_URI which MODEL_ALIAS names.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("--input", required=True, help=f"Parquet, or CSV with a header: {_PLACES}")
    one.add_argument("--output", required=True, help="Parquet; places as for --input")
    one.add_argument("--version", default="", help="version of the model (default: the one that the alias names)")
    one.add_argument("--prefix", default="", help="before the names of added columns, if the input has such ones")
    return top


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    chosen = parser().parse_args(words)
    try:
        settings = load(BatchSettings, "fastapi.config")
        done = batch.run(settings, chosen.input, chosen.output, chosen.version, chosen.prefix, _tell)
    except HouseError as failed:
        _tell(f"failed: {failed}")
        return 1
    rate = done.rows / max(done.seconds, 1e-9)
    print(
        f"{done.rows:,} rows in {done.seconds:.1f} s ({rate:,.0f} rows/s), {done.without_price:,} without a price: "
        f"{done.uri}"
    )
    return 0


def _tell(sentence: str) -> None:
    print(f"batch: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
