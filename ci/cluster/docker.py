"""The Docker engine that runs the nodes: the machine's own or, if none answers, one from Debian's packages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from ci.cluster.record import read_record
from ci.cluster.registryless import engine
from ci.cluster.registryless.engine_folders import SOCKET
from ci.cluster.registryless.engine_network import ENGINE_ADDRESS
from ci.common.console import run


@dataclass(frozen=True)
class Docker:
    """A Docker engine. `own` is true for the engine from Debian's packages, which this package starts and stops."""

    own: bool

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables with which `docker` and `kind` reach the engine."""
        return engine.environment() if self.own else os.environ

    @property
    def api_address(self) -> str:
        """Address at which the port of the API server is published."""
        return ENGINE_ADDRESS if self.own else "127.0.0.1"

    def up(self) -> None:
        """Start the engine if it is the one from Debian's packages."""
        if self.own:
            engine.up()

    def run(self, *words: str, check: bool = True, stdin: str | None = None, timeout: float | None = None) -> str:
        """Run `docker` with `words` and return what it printed."""
        return run(["docker", *words], env=self.environment, check=check, stdin=stdin, timeout=timeout).stdout

    def has_image(self, image: str) -> bool:
        """True if the engine has the image."""
        done = run(["docker", "image", "inspect", image], env=self.environment, check=False)
        return done.returncode == 0


def machine_answers() -> bool:
    """True if an engine answers that this package did not start. `docker` on PATH may have no engine behind it."""
    if os.environ.get("DOCKER_HOST") == f"unix://{SOCKET}" or not shutil.which("docker"):
        return False
    return run(["docker", "info"], check=False, timeout=20).returncode == 0


def choose() -> Docker:
    """Choose the machine's engine if it answers, else the one from Debian's packages."""
    return Docker(own=not machine_answers())


def of_cluster() -> Docker:
    """The engine of the cluster that exists, else the one that a new cluster would get."""
    record = read_record()
    if record:
        return Docker(record.own_engine)
    return Docker(own=True) if engine.exists() else choose()
