"""Output of the programs under ci/: phases with their duration, and errors with a remedy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

_START = time.monotonic()


class Failure(Exception):
    """A step failed. The text says what happened and what to do."""


def say(text: str) -> None:
    """Print one line with the seconds since this program began."""
    line(f"[{time.monotonic() - _START:6.1f} s] {text}")


def line(text: str) -> None:
    """Print one line. Lines of several threads do not mix."""
    print(f"{text}\n", end="", flush=True)


@contextmanager
def phase(name: str, then: str = "") -> Iterator[None]:
    """Announce a step, run it, and print how long it took and what comes next."""
    say(f"{name} ...")
    began = time.monotonic()
    yield
    say(f"{name}: done in {time.monotonic() - began:.1f} s" + (f"; next: {then}" if then else ""))


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    log: Path | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return it with its output as text.

    With `log` the output is appended to that file instead; on failure its tail is shown.

    Raises:
        Failure: the program ended with another code than 0 (unless `check` is false), or timed out.
    """
    words = [str(word) for word in command]
    try:
        if log is None:
            done = subprocess.run(
                words, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
            )
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as sink:
                done = subprocess.run(
                    words,
                    cwd=cwd,
                    env=env,
                    input=stdin,
                    stdout=sink,
                    stderr=sink,
                    text=True,
                    timeout=timeout,
                    check=False,
                )
    except FileNotFoundError as missing:
        raise Failure(f"{words[0]} is not installed") from missing
    except subprocess.TimeoutExpired as late:
        raise Failure(f"`{' '.join(words[:4])}` did not end within {timeout:.0f} s") from late
    if check and done.returncode:
        text = log.read_text(errors="replace") if log else f"{done.stdout}\n{done.stderr}"
        tail = "\n".join(text.strip().splitlines()[-25:])
        where = f" (whole log: {log})" if log else ""
        raise Failure(f"`{' '.join(words[:6])}` ended with code {done.returncode}{where}:\n{tail}")
    return done


def stream(*words: str) -> None:
    """Run this Python with the arguments `words`, and pass its output on as it comes.

    Raises:
        Failure: it ended with another code than 0. Its own output has the reason.
    """
    done = subprocess.run([sys.executable, *words], check=False)
    if done.returncode:
        raise Failure(f"`python {' '.join(words)}` ended with code {done.returncode}; its message is above")


def wait_for(what: str, ready: Callable[[], bool], seconds: float, every: float = 0.5) -> None:
    """Call `ready` until it is true.

    Raises:
        Failure: it was still false after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise Failure(f"{what} did not come within {seconds:.0f} s")
        time.sleep(every)


def main(program: Callable[[], int | None]) -> NoReturn:
    """Run a program's main function; a `Failure` becomes one readable message and exit code 1."""
    try:
        sys.exit(program() or 0)
    except Failure as failure:
        print(f"\nFAILED: {failure}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
