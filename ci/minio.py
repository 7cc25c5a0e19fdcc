"""A MinIO server for tests on this machine: the release of the image, compiled once into the cache."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import time
from pathlib import Path

from ci.console import Failure, main, run, say
from ci.gocache import go_environment
from ci.paths import CHECKOUT, cache_dir

MODULE = CHECKOUT / "services" / "minio" / "go"
PACKAGE = "github.com/minio/minio"


def minio() -> Path:
    """Path of the program; compiled if this module and toolchain never were. Shares its compiles with the image.

    Raises:
        Failure: there is no Go toolchain, or it failed.
    """
    if not shutil.which("go"):
        raise Failure("MinIO is compiled from its Go module, and there is no Go: install it and put it on PATH")
    toolchain = run(["go", "env", "GOVERSION"], cwd=MODULE, env=go_environment()).stdout
    inputs = [(MODULE / name).read_bytes() for name in ("go.mod", "go.sum")]
    key = hashlib.sha256(b"\0".join([*inputs, toolchain.encode()])).hexdigest()[:12]
    program = cache_dir() / "minio" / f"minio-{key}"
    if program.exists():
        return program
    say("compiling MinIO ... minutes on a cold cache")
    began = time.monotonic()
    partial = program.with_suffix(f".{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    command = ["nice", "-n", "5", "go", "build", "-ldflags", "-s -w", "-o", str(partial), PACKAGE]
    run(command, cwd=MODULE, env=go_environment(), log=cache_dir() / "log" / "minio.log")
    partial.replace(program)
    say(f"compiled MinIO in {time.monotonic() - began:.0f} s: {program}")
    return program


def _main() -> None:
    argparse.ArgumentParser(prog="python -m ci.minio", description=__doc__).parse_args()
    print(minio())


if __name__ == "__main__":
    main(_main)
