"""Compiles programs of this repository's Go modules. The cache keeps each under a hash of its inputs.

An interrupted build continues with the first missing program. A second build compiles nothing.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ci.common.console import Failure, run, say
from ci.common.gocache import go_environment
from ci.common.paths import CHECKOUT, cache_dir


@dataclass(frozen=True)
class GoProgram:
    """A program compiled from `package` of the Go module in the folder `module`.

    `sources` is the folder of the program's own files in the module, if it has any. `links` are other names of the
    program. `store` is its folder in the cache.
    """

    name: str
    package: str
    module: Path
    store: str
    sources: str = ""
    version_flags: str = ""
    links: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Cache folder of this version of the program."""
        return cache_dir() / self.store / f"{self.name}-{_key(self)}"

    @property
    def path(self) -> Path:
        """Path of the compiled program."""
        return self.folder / self.name


@cache
def module_version(module: str, sources: Path) -> str:
    """Version of a module as the go.mod in `sources` requires it, such as `v1.36.3`."""
    match = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", (sources / "go.mod").read_text(), re.MULTILINE)
    if not match:
        raise LookupError(f"{sources / 'go.mod'} does not require {module}")
    return match.group(1)


def environment(module: Path) -> dict[str, str]:
    """Environment of a module's builds. If go.mod names a toolchain, exactly that one is used."""
    named = re.search(r"^toolchain (go\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    return go_environment() | ({"GOTOOLCHAIN": named.group(1)} if named else {})


def compile_missing(programs: Sequence[GoProgram]) -> int:
    """Compile the programs that the cache lacks, one at a time; returns how many were compiled.

    Raises:
        Failure: there is no Go toolchain, it is too old, or a compile failed.
    """
    missing = [program for program in programs if not program.path.exists()]
    for number, program in enumerate(missing, 1):
        following = missing[number].name if number < len(missing) else "the images"
        note = " (takes minutes when the Go build cache is empty)" if number == 1 else ""
        say(f"compiling {program.name} ({number} of {len(missing)}){note}")
        began = time.monotonic()
        partial = program.folder.with_name(program.folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        log = program.folder.parent / "log" / f"{program.name}.log"
        command = ["go", "build", "-ldflags", _flags(program), "-o", str(partial / program.name)]
        run([*command, program.package], cwd=program.module, env=environment(program.module), log=log)
        for link in program.links:
            (partial / link).symlink_to(program.name)
        shutil.rmtree(program.folder, ignore_errors=True)
        partial.replace(program.folder)
        say(f"compiled {program.name} in {time.monotonic() - began:.0f} s; next: {following}")
    return len(missing)


def drop_old(folder: Path, current: set[Path], keep_days: float = 14) -> None:
    """Delete programs and archives in a cache folder, except `current` ones and those of the last `keep_days`."""
    before = time.time() - keep_days * 86400
    for path in [*folder.glob("*-????????????"), *folder.glob("*.partial"), *folder.glob("images/*")]:
        if path not in current and path.stat().st_mtime < before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@cache
def toolchain(module: Path) -> str:
    """Version of the Go toolchain that a module is built with, such as `go1.26.8`.

    Raises:
        Failure: there is none, or it is older than the version in go.mod.
    """
    match = re.search(r"^go (\d+(?:\.\d+)+)", (module / "go.mod").read_text(), re.MULTILINE)
    if not match:
        raise LookupError(f"{module / 'go.mod'} names no Go version")
    needed = match.group(1)
    remedy = f"install Go {needed} or newer and put its bin folder on PATH"
    if not shutil.which("go"):
        raise Failure(f"there is no Go toolchain, and this repository compiles programs from Go modules: {remedy}")
    answer = run(["go", "env", "GOVERSION"], cwd=module.parent, env=environment(module)).stdout.strip()
    present = re.match(r"go(\d+(?:\.\d+)*)", answer)
    if not present or _numbers(present.group(1)) < _numbers(needed):
        where = (module / "go.mod").relative_to(CHECKOUT)
        raise Failure(f"the Go toolchain on PATH is {answer}, {where} needs {needed}: {remedy}")
    return answer


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@cache
def _key(program: GoProgram) -> str:
    digest = hashlib.sha256()
    files = [file for name in ("go.mod", "go.sum") if (file := program.module / name).exists()]
    if program.sources:
        own = (program.module / program.sources).glob("*.go")
        files += sorted(file for file in own if not file.name.endswith("_test.go"))
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    digest.update(f"{toolchain(program.module)}\0{program.package}\0{_flags(program)}".encode())
    return digest.hexdigest()[:12]


def _flags(program: GoProgram) -> str:
    return f"-s -w {program.version_flags}".strip()
