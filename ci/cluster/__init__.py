"""A Kubernetes cluster to work on, and what other programs need to know of it.

Three kinds: `onenode` (upstream Kubernetes compiled from Go modules, see README.md here), `kind`, and `current` (the
current kubeconfig context, which somebody else looks after).
"""

from __future__ import annotations

from pathlib import Path

from ci.cluster.kinds import choose


def kubectl() -> Path:
    """A kubectl for the cluster: the one-node cluster's own, or the one on PATH."""
    return choose().kubectl()


def import_archive(path: Path) -> None:
    """Import an OCI archive with images into the cluster's nodes.

    Raises:
        Failure: the cluster takes images from a registry only.
    """
    choose().import_archive(path)


def present_images() -> set[str]:
    """Names (`registry/name:tag` and `registry/name@digest`) of the images that the cluster's nodes hold."""
    return choose().present_images()
