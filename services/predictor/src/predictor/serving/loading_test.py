"""The loading test: loads a model bundle in a child process and prices its golden rows.

The child runs `python -m predictor.serving.loading_test <directory> <seconds> <bytes>`. It is a separate process,
because a damaged LightGBM text can crash or hang the process that loads it, or use up all memory. The child cannot
disturb the service: it has a lower priority (nice), limits on memory, time and output, and the kernel ends it first
when memory is short. A hostile text might also run code: the child gets no secret in its environment, and where the
kernel has Landlock, it cannot connect over TCP, start programs, or read the memory and the environment of the service.
Exit code 0: the bundle may serve; 1: it may not, with one sentence on standard error; other: the
child crashed.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BundleError, HouseError
from core.model.bundle import load_bundle

SECONDS = 60.0
MEMORY_BYTES = 256 * 2**20  # in addition to the program; a bundle of six megabytes needs less than 40 MiB
NICE = 10
CPU_MARGIN = 5  # seconds
OUTPUT_BYTES = 64 * 2**10
REASON_CHARACTERS = 500
MAX_LEAF = 100.0  # a leaf value is added to the logarithm of a price: no price changes by a factor of e^100

# each thread reserves memory that counts towards the limit, and the service has only one core
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
# The only variables of the service that the child gets. The others include the DSN of the ledger and API keys.
_NEEDED = ("PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LANG", "LC_ALL")

_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # the same numbers on x86-64 and on arm64
_EXECUTE, _BIND_AND_CONNECT_TCP = 1, 3  # access rights of Landlock for files and for TCP


def run_loading_test(directory: Path, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
    """Test the bundle in a child process.

    Raises:
        BundleError: the bundle failed the test; the text has the cause.
    """
    command = [sys.executable, "-m", "predictor.serving.loading_test", str(directory), str(seconds), str(memory_bytes)]
    with tempfile.TemporaryFile() as stderr:
        try:
            done = subprocess.run(
                command,
                env={name: os.environ[name] for name in _NEEDED if name in os.environ} | _ONE_THREAD,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BundleError(
                f"loading the bundle and pricing its golden rows did not end within {seconds:.0f} s"
            ) from error
        if done.returncode < 0:
            raise BundleError(f"loading the bundle crashed the test process (signal {-done.returncode})")
        if done.returncode:
            stderr.seek(0)
            sentence = stderr.read(OUTPUT_BYTES).decode(errors="replace").strip().rpartition("\n")[2]
            sentence = sentence.replace(f" in {directory}", "")  # a draft folder, which is gone later
            raise BundleError(sentence or f"the loading test ended with exit code {done.returncode}")


def check(directory: Path) -> None:
    """Check that a bundle may serve.

    It must be complete, have the features of this program, hold finite numbers only, and give its golden prices, for
    each listing alone as well as for all together.

    Raises:
        BundleError: the bundle fails a check; the text has the cause.
    """
    bundle = load_bundle(directory)
    if not bundle.golden_listings or len(bundle.golden_listings) != len(bundle.golden_prices):
        raise BundleError(
            f"the bundle has {len(bundle.golden_listings)} golden listings and {len(bundle.golden_prices)} golden "
            "prices; it needs the same number of both, and at least one, to check its prices: train again"
        )
    for path in directory.glob("*.json"):
        _check_numbers(json.loads(path.read_bytes()), path.name)
    _check_leaves((directory / "model.txt").read_text())
    bundle.check_golden()
    for at, price in enumerate(bundle.golden_prices):  # `check_golden` has compared the model's prices with these
        if not (math.isfinite(price) and price > 0):
            raise BundleError(f"golden listing {at} is priced {price}, not a positive finite number: train again")


def _check_numbers(value: Any, where: str) -> None:
    """Refuse NaN and infinity: such a number would spoil the price of every listing of its category."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BundleError(f"{where} holds {value} instead of a finite number: train again")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(part, where)


def _check_leaves(text: str) -> None:
    """Refuse absurd leaf values. Golden listings cannot show them all, because they do not reach every leaf."""
    for values in re.findall(r"^leaf_value=(.*)$", text, re.MULTILINE):
        leaves = np.array(values.split(), dtype=np.float64)
        absurd = leaves[~(np.abs(leaves) <= MAX_LEAF)]
        if absurd.size:
            raise BundleError(f"a leaf of the model adds {absurd[0]} to the logarithm of a price: train again")


def _limit(seconds: float, memory_bytes: int) -> None:
    """Limit the resources of this process, and lower its priority below that of the service."""
    os.nice(NICE)
    with suppress(OSError):  # best effort: some sandboxes hide the file
        Path("/proc/self/oom_score_adj").write_text("1000")
    data = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    used = int(data[1]) * 1024 if data else 0
    # RLIMIT_DATA and not RLIMIT_AS, because Polars reserves much more address space than it uses
    for kind, limit in (
        (resource.RLIMIT_DATA, used + memory_bytes),
        (resource.RLIMIT_CPU, math.ceil(seconds) + CPU_MARGIN),  # a backstop for the case that the parent is gone
        (resource.RLIMIT_FSIZE, OUTPUT_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


def _confine() -> None:
    """Give up TCP, starting programs, and access to processes outside (Landlock). Best effort.

    A kernel before 6.7 has no rules for TCP, one before 5.13 no Landlock. Landlock always denies a process access to
    those outside of its domain, so that it cannot read `/proc/<parent>/environ`.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for rights in (struct.pack("QQ", _EXECUTE, _BIND_AND_CONNECT_TCP), struct.pack("Q", _EXECUTE)):
        ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, rights, ctypes.c_size_t(len(rights)), 0)
        if ruleset >= 0:
            libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
            return


def _main() -> int:
    directory, seconds, memory_bytes = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    _limit(seconds, memory_bytes)
    _confine()
    try:
        check(directory)
    except HouseError as error:
        reason = str(error)
    except MemoryError:
        reason = f"loading the bundle takes more than {memory_bytes:,} bytes of memory: raise TRIAL_MEMORY_BYTES"
    except Exception as error:  # noqa: BLE001  # any error that a bundle causes is a cause to refuse it
        reason = f"loading the bundle failed: {error!r}"
    else:
        return 0
    print(" ".join(reason.split())[:REASON_CHARACTERS], file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(_main())
