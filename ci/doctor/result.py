"""What a check says, and what the checks expect of a machine and a cluster."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ci.console import Failure

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"


@dataclass(frozen=True)
class Result:
    """What one check found."""

    check: str
    level: str  # ok, warn, fail, or skip where it could not look
    what: str
    mend: str = ""  # what to do, a command where there is one; "" if nothing is to be done


def ok(check: str, what: str) -> Result:
    """All is well."""
    return Result(check, OK, what)


def warn(check: str, what: str, mend: str) -> Result:
    """It may run, and may not."""
    return Result(check, WARN, what, mend)


def fail(check: str, what: str, mend: str) -> Result:
    """It will not run."""
    return Result(check, FAIL, what, mend)


def skip(check: str, why: str) -> Result:
    """Nobody looked."""
    return Result(check, SKIP, why)


@dataclass(frozen=True)
class Expected:
    """What an environment needs, as `ci.expected` reads it from what the charts render."""

    env: str
    made: float = 0  # time of the commit, seconds since 1970
    images: list[str] = field(default_factory=list)  # as `registry/name:tag@sha256:...`
    images_missing: str = ""  # the file that should name the images, where it is not there
    cpu: float = 0  # sum of all requests, cores
    memory: int = 0  # likewise, bytes
    volumes: int = 0  # sum of all volume claims, bytes
    storage_classes: list[str] = field(default_factory=list)  # named by claims; "" is the default class
    secrets: list[str] = field(default_factory=list)  # `namespace/name`, made by `make secrets`
    foreign_secrets: list[str] = field(default_factory=list)  # named by objects, and made by nobody here
    hosts: list[str] = field(default_factory=list)  # of Ingresses
    data_api: str = ""  # URL of an external data API; "" where the stand-in is installed
    data_api_cidr: str = ""  # what the network policies open for it
    mlflow: dict[str, str] = field(default_factory=dict)  # version locked by each image: server, pipeline

    def save(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def load(path: Path) -> Expected:
    """Read what `save` wrote.

    Raises:
        Failure: the file is missing or is something else.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as wrong:
        raise Failure(f"{path} cannot be read ({wrong}): `python -m ci.expected --env <env>` writes it") from wrong
    unknown = sorted(set(found) - {one.name for one in fields(Expected)})
    if unknown or "env" not in found:
        raise Failure(f"{path} is no file of `python -m ci.expected`: {', '.join(unknown) or 'it names no env'}")
    return Expected(**found)
