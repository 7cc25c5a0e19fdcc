"""References of container images: `registry/name:tag@sha256:...` and its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass

HUB = "registry-1.docker.io"


@dataclass(frozen=True)
class Reference:
    """An image's name, taken apart."""

    registry: str  # host with port, "localhost" for what is imported by hand
    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """As containerd records it: registry and repository."""
        return f"{'docker.io' if self.registry == HUB else self.registry}/{self.repository}"

    @property
    def identity(self) -> str:
        """The record of containerd that a pod needs."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    @property
    def url(self) -> str:
        """Its manifest; plain HTTP for a registry on this machine."""
        scheme = "http" if re.match(r"(localhost|127\.0\.0\.1)(:|$)", self.registry) else "https"
        return f"{scheme}://{self.registry}/v2/{self.repository}/manifests/{self.digest or self.tag}"


def parse(text: str) -> Reference:
    """Take `registry/name:tag@sha256:...` apart; without a registry it is Docker Hub's."""
    rest, _, digest = text.partition("@")
    head, slash, tail = rest.rpartition("/")
    last, _, tag = tail.partition(":")
    path = f"{head}{slash}{last}"
    first, _, remainder = path.partition("/")
    if remainder and (re.search(r"[.:]", first) or first == "localhost"):
        registry, repository = first, remainder
    else:
        registry, repository = HUB, path if "/" in path else f"library/{path}"
    return Reference(HUB if registry == "docker.io" else registry, repository, tag or "latest", digest)
