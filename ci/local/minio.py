"""The MinIO server for tests on this machine: the version of the image, compiled once into the cache."""

from __future__ import annotations

import argparse
from pathlib import Path

from ci.common.console import main
from ci.common.gocache import compiled
from ci.common.paths import CHECKOUT


def minio() -> Path:
    """Path of the program. It shares its compiled packages with the image.

    Raises:
        Failure: there is no Go toolchain, or it failed.
    """
    return compiled(CHECKOUT / "services" / "minio" / "go", "github.com/minio/minio", "minio")


def _main() -> None:
    argparse.ArgumentParser(prog="python -m ci.local.minio", description=__doc__).parse_args()
    print(minio())


if __name__ == "__main__":
    main(_main)
