"""Virtual environments of the servers, in the cache folder, from hash-pinned requirement files.

`python -m tests.bench.serving.environments` writes these files, and `make lock` runs it. Versions change only with
`--upgrade`. LightGBM, MLflow and Polars have the versions of the platform in all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from ci.checks.lock import HEADER
from ci.common.console import Failure, main, phase, run
from ci.common.paths import CHECKOUT, cache_dir

PEERS = Path(__file__).with_name("peers")
PREDICTOR = CHECKOUT / "services" / "predictor"
MLFLOW = CHECKOUT / "services" / "mlflow"
SAME = ("lightgbm", "mlflow", "polars")
_ENV = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
_OLDEST = "3.11"  # Python that this repository supports


def environment(name: str, lock: Path, python: str = sys.executable, without: Path | None = None) -> Path:
    """The folder of programs of an environment, created if these files have none yet.

    `python` is an interpreter or, for uv, a range of versions; `without` lists packages that are removed again.

    Raises:
        Failure: it could not be made.
    """
    inputs = [lock.read_bytes(), without.read_bytes() if without else b"", python.encode(), sys.version.encode()]
    folder = cache_dir() / "bench" / f"{name}-{hashlib.sha256(b'0'.join(inputs)).hexdigest()[:12]}"
    done = folder / "ready"
    if not done.exists():
        with phase(f"environment of {name}"):
            inside = ["--python", str(folder / "bin" / "python")]
            run([_uv(), "venv", "-q", "--clear", "--python", python, folder], env=_ENV)
            install = [_uv(), "pip", "install", "-q", *inside, "--only-binary", ":all:", "--require-hashes"]
            run([*install, "-r", lock], env=_ENV)
            if without:
                packages = re.sub(r"^#.*", "", without.read_text(), flags=re.MULTILINE).split()
                run([_uv(), "pip", "uninstall", "-q", *inside, *packages], env=_ENV)
            done.touch()
    return folder / "bin"


def lock(upgrade: bool = False) -> None:
    """Resolve the packages of every peer. Without `upgrade`, versions in its lock are preferred."""
    ours = PREDICTOR.joinpath("requirements.lock").read_text() + MLFLOW.joinpath("requirements.lock").read_text()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as same:
        same.write("\n".join(sorted(set(re.findall(rf"^(?:{'|'.join(SAME)})==\S+", ours, re.MULTILINE)))))
        same.flush()
        command = [_uv(), "pip", "compile", "--quiet", "--universal", "--python-version", _OLDEST, "-c", same.name]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
        command += ["--upgrade"] if upgrade else []
        for requirements in sorted(PEERS.glob("*/requirements.in")):
            # uv reads the preferred versions from this file, and overwrites it
            target = requirements.with_suffix(".lock")
            run([*command, "-o", target, requirements], env=_ENV)
            target.write_text(HEADER + target.read_text())


def _uv() -> str:
    """Path of uv: on PATH, or in the cache folder of `make`."""
    kept = sorted(cache_dir().glob("uv-*/bin/uv"))
    program = shutil.which("uv") or (str(kept[-1]) if kept else "")
    if not program:
        raise Failure("uv is not installed. Run `make setup`.")
    return program


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving.environments", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="renew every version")
    lock(parser.parse_args().upgrade)


if __name__ == "__main__":
    main(_main)
