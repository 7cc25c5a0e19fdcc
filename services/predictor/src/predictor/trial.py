"""Load a model bundle and check its golden rows: `python -m predictor.trial <directory>`.

A process of its own, because a damaged LightGBM text can crash or hang the process that loads it. Exit code 0: the
bundle may serve; 1: it may not, with one sentence on standard error; anything else: it crashed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from core.bundle import load_bundle
from core.errors import BundleError, HouseError

TIMEOUT_SECONDS = 60


def run_trial(directory: Path, seconds: float = TIMEOUT_SECONDS) -> None:
    """Try the bundle in a child process.

    Raises:
        BundleError: it may not serve; the text says why.
    """
    command = [sys.executable, "-m", "predictor.trial", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        raise BundleError(f"loading it and pricing its golden rows did not end within {seconds:.0f} s") from late
    if done.returncode < 0:
        raise BundleError(f"loading it crashed the trial process (signal {-done.returncode})")
    if done.returncode:
        raise BundleError(done.stderr.strip().rpartition("\n")[2] or f"the trial ended with code {done.returncode}")


def _main() -> int:
    try:
        load_bundle(Path(sys.argv[1])).check_golden()
    except HouseError as bad:
        print(bad, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
