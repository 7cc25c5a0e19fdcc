"""Docker from Debian's packages, unpacked into the cache, and the packages that it needs on the machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ci.common import debian
from ci.common.console import phase, run
from ci.common.paths import cache_dir

PACKAGES = ("containerd", "iproute2", "iptables", "libdevmapper1.02.1", "nftables", "procps", "runc", "tini")


def install() -> None:
    """Install the packages that are missing, and unpack Docker into the cache without installing it.

    An installed Docker package would start a second engine on the machine's own network.

    Raises:
        Failure: this is not Debian, not root, or apt failed.
    """
    debian.install(PACKAGES)
    if (_folder() / "usr" / "sbin" / "dockerd").exists():
        return
    partial = _folder().with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    log = cache_dir() / "log" / "apt.log"
    with phase("unpack Docker from Debian's packages"):
        with debian.alone():
            if not debian.available("docker.io"):
                run(["apt-get", "update", "-q"], log=log)
            # Debian 13 has a separate package for the client
            names = [name for name in ("docker.io", "docker-cli") if debian.available(name)]
            run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *names], cwd=partial, log=log)
        for package in partial.glob("*.deb"):
            run(["dpkg-deb", "-x", package, partial])
            package.unlink()
        shutil.rmtree(_folder(), ignore_errors=True)
        partial.replace(_folder())


def client_path() -> str:
    """PATH with the client `docker` first."""
    return f"{_folder() / 'usr' / 'bin'}:{os.environ['PATH']}"


def engine_path() -> str:
    """PATH with `dockerd` and the client first."""
    return f"{_folder() / 'usr' / 'sbin'}:{client_path()}"


def _folder() -> Path:
    return cache_dir() / "docker-package"
