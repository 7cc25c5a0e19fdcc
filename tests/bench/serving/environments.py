"""Virtual environments of the servers, in the cache folder, from hash-pinned requirement files.

`python -m tests.bench.serving.environments` resolves the peers anew and writes theirs (`make lock` does it);
LightGBM, MLflow and Polars have the platform's versions in all of them.
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

from ci.console import Failure, main, phase, run
from ci.lock import HEADER
from ci.paths import CHECKOUT, cache_dir

PEERS = Path(__file__).with_name("peers")
PREDICTOR = CHECKOUT / "services" / "predictor"
SAME = ("lightgbm", "mlflow", "polars")
_ENV = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
_OLDEST = "3.11"  # Python that the checkout supports


def environment(name: str, lock: Path, python: str = sys.executable, without: Path | None = None) -> Path:
    """The folder of programs of an environment, made if these files made none before.

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


def lock() -> None:
    """Resolve the packages of every peer anew."""
    ours = (CHECKOUT / "requirements-dev.lock").read_text()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as same:
        same.write("\n".join(re.findall(rf"^(?:{'|'.join(SAME)})==\S+", ours, re.MULTILINE)))
        same.flush()
        command = [_uv(), "pip", "compile", "--quiet", "--universal", "--python-version", _OLDEST, "-c", same.name]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
        for wanted in sorted(PEERS.glob("*/requirements.in")):
            wanted.with_suffix(".lock").write_text(HEADER + run([*command, wanted], env=_ENV).stdout)


def _uv() -> str:
    """The program: on PATH, as `make` puts it there, or where `make` keeps it."""
    kept = sorted(cache_dir().glob("uv-*/bin/uv"))
    found = shutil.which("uv") or (str(kept[-1]) if kept else "")
    if not found:
        raise Failure("there is no uv: `make setup` installs it")
    return found


def _main() -> None:
    argparse.ArgumentParser(prog="python -m tests.bench.serving.environments", description=__doc__).parse_args()
    lock()


if __name__ == "__main__":
    main(_main)
