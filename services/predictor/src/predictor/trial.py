"""Load a model bundle and price its golden rows: `python -m predictor.trial <directory> <seconds> <bytes>`.

A process of its own, because a damaged LightGBM text can crash or hang the process that loads it, or take all memory.
It may harm nobody: it waits for the service's own work (nice), has bounds on memory, time and output, and is the first
that the kernel ends where memory is short. Exit code 0: the bundle may serve; 1: it may not, with one sentence on
standard error; anything else: it crashed.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from core.bundle import load_bundle
from core.errors import BundleError, HouseError

SECONDS = 60.0
MEMORY_BYTES = 256 * 2**20  # beside what the program itself takes; a bundle of six megabytes takes less than 40 MiB
NICE = 10
CPU_MARGIN = 5  # seconds
OUTPUT_BYTES = 64 * 2**10
TOLD_CHARACTERS = 500
MOST_OF_A_LEAF = 100.0  # a leaf adds to the logarithm of a price: e^100 is no factor between houses

# a thread reserves memory that counts as used, and one core is all that the service has
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


def run_trial(directory: Path, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
    """Try the bundle in a child process.

    Raises:
        BundleError: it may not serve; the text says why.
    """
    command = [sys.executable, "-m", "predictor.trial", str(directory), str(seconds), str(memory_bytes)]
    with tempfile.TemporaryFile() as told:
        try:
            done = subprocess.run(
                command,
                env=os.environ | _ONE_THREAD,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=told,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise BundleError(f"loading it and pricing its golden rows did not end within {seconds:.0f} s") from late
        if done.returncode < 0:
            raise BundleError(f"loading it crashed the trial process (signal {-done.returncode})")
        if done.returncode:
            told.seek(0)
            sentence = told.read(OUTPUT_BYTES).decode(errors="replace").strip().rpartition("\n")[2]
            sentence = sentence.replace(f" in {directory}", "")  # a draft, which is gone when this is read
            raise BundleError(sentence or f"the trial ended with code {done.returncode}")


def check(directory: Path) -> None:
    """What a bundle must be to serve: whole, of this program's features, finite, and the same alone as among others.

    Raises:
        BundleError: it is not; the text says what is wrong.
    """
    bundle = load_bundle(directory)
    if not bundle.golden_listings or len(bundle.golden_listings) != len(bundle.golden_prices):
        raise BundleError(
            f"it has {len(bundle.golden_listings)} golden listings and {len(bundle.golden_prices)} prices of them: "
            "without them nobody knows whether it prices as it should; train again"
        )
    for path in directory.glob("*.json"):
        _check_numbers(json.loads(path.read_bytes()), path.name)
    _check_leaves((directory / "model.txt").read_text())
    bundle.check_golden()
    for at, price in enumerate(bundle.golden_prices):  # those that were found: the check before compared them
        if not (math.isfinite(price) and price > 0):
            raise BundleError(f"golden listing {at} is priced {price}: no price of a house; train again")


def _check_numbers(value: Any, where: str) -> None:
    """One number that is not finite would be in the price of every listing of its category."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BundleError(f"{where} holds {value} where a number is needed: train again")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(part, where)


def _check_leaves(text: str) -> None:
    """The golden listings may miss a leaf that others reach."""
    for values in re.findall(r"^leaf_value=(.*)$", text, re.MULTILINE):
        leaves = np.array(values.split(), dtype=np.float64)
        wrong = leaves[~(np.abs(leaves) <= MOST_OF_A_LEAF)]
        if wrong.size:
            raise BundleError(f"a leaf of the model adds {wrong[0]} to the logarithm of a price: train again")


def _bound(seconds: float, memory_bytes: int) -> None:
    """Bound this process, and put it behind the service where both want the same."""
    os.nice(NICE)
    with suppress(OSError):  # only a help: some sandboxes hide the file
        Path("/proc/self/oom_score_adj").write_text("1000")
    held = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    own = int(held[1]) * 1024 if held else 0
    # what is written to: address space alone is reserved in plenty by Polars
    for kind, most in (
        (resource.RLIMIT_DATA, own + memory_bytes),
        (resource.RLIMIT_CPU, math.ceil(seconds) + CPU_MARGIN),  # where nobody is left to end it; never before that
        (resource.RLIMIT_FSIZE, OUTPUT_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _main() -> int:
    directory, seconds, memory_bytes = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    _bound(seconds, memory_bytes)
    try:
        check(directory)
    except HouseError as bad:
        reason = str(bad)
    except MemoryError:
        reason = f"loading it takes more than {memory_bytes:,} bytes of memory: see TRIAL_MEMORY_BYTES"
    except Exception as unknown:  # noqa: BLE001  # whatever a bundle provokes is a reason to refuse it
        reason = f"trying it failed: {unknown!r}"
    else:
        return 0
    print(" ".join(reason.split())[:TOLD_CHARACTERS], file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(_main())
