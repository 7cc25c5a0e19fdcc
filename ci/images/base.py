"""The Debian 13 base of all images if no container registry is reachable, and the image that builds on it.

base     part of every image: minbase, Python 3.13, CA bundle, OpenMP; no apt sources, no caches, of perl only perl-base
build    base with apt sources and uv; never shipped
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ci.common import debian
from ci.common.console import run
from ci.common.paths import CHECKOUT

SUITE = "trixie"
PACKAGES = ("usr-is-merged", "python3", "ca-certificates", "netbase", "tzdata", "libgomp1")
UV_LOCK = CHECKOUT / "services" / "requirements-uv.lock"
EPOCH = 1_760_000_000  # time of every file in an image
USER = 10001
PYTHON = "/usr/lib/python3.13"
RECIPE = hashlib.sha256(Path(__file__).read_bytes() + UV_LOCK.read_bytes()).hexdigest()  # any change makes a new base


def _sources() -> list[str]:
    main, security = debian.mirrors()
    return [
        f"deb {main} {SUITE} main",
        f"deb {main} {SUITE}-updates main",
        f"deb {security} {SUITE}-security main",
    ]


def make_root(target: Path, log: Path) -> None:
    """Write the root file system of the base as a tar. The same packages give the same bytes."""
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc", "info", "lintian")]
    hooks = [
        f'chroot "$1" groupadd -g {USER} app',
        f'chroot "$1" useradd -u {USER} -g {USER} -d /home/app -m -s /usr/sbin/nologin app',
        'rm -rf "$1"/var/log/* "$1"/var/cache/* "$1"/root/.cache "$1"/var/lib/dpkg/*-old',
        'rm -rf "$1"/var/lib/apt/extended_states "$1"/etc/apt/sources.list*',
        'rm -f "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/machine-id',
        'rm -f "$1"/etc/passwd- "$1"/etc/group- "$1"/etc/shadow- "$1"/etc/gshadow- "$1"/etc/subuid- "$1"/etc/subgid-',
        'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap',
        'find "$1"/usr/lib/python3* -name __pycache__ -prune -exec rm -rf {} +',
        f'chroot "$1" python3 -m compileall -q --invalidation-mode unchecked-hash {PYTHON}',
    ]
    command = ["mmdebstrap", "--variant=minbase", "--format=tar", "--mode=root", f"--include={','.join(PACKAGES)}"]
    command += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", '--aptopt=APT::Install-Recommends "false"']
    command += [*excluded, "--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    command += [f"--customize-hook={hook}" for hook in hooks]
    # Programs of packages must not leave bytecode: it would hold the time of its source.
    settings = {"SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    run([*command, SUITE, target, *_sources()], env={**os.environ, **settings}, log=log)


BASE_DOCKERFILE = """FROM scratch
ADD root.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
"""


def build_dockerfile() -> str:
    """Dockerfile of the build image. It has this machine's apt sources, so it is never shipped."""
    lines = " && ".join(f"echo '{line}' >> /etc/apt/sources.list" for line in _sources())
    return f"""ARG BASE
FROM ${{BASE}}
ARG SSL_CERT_FILE
COPY {UV_LOCK.name} /tmp/
RUN {lines} && apt-get update -qq \\
 && apt-get install -y -qq --no-install-recommends python3-venv \\
 && python3 -m venv /opt/uv && PIP_CERT="$SSL_CERT_FILE" /opt/uv/bin/pip install -q --no-cache-dir \\
      --only-binary :all: --require-hashes -r /tmp/{UV_LOCK.name} \\
 && ln -s /opt/uv/bin/uv /usr/local/bin/uv
ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GOPATH=/go GOTOOLCHAIN=local
"""
