"""The actions of `python -m ci.images`: build, load, compare and record."""

from __future__ import annotations

from ci import cluster
from ci.common.console import Failure, phase, say
from ci.images import builders, packages, store
from ci.images.catalog import IMAGES
from ci.images.store import Built


def table(built: list[Built]) -> str:
    """The images as a text table."""
    rows = [f"{'image':<13} {'tag':<19} {'digest':<21} {'MB':>6} {'seconds':>8}"]
    for one in built:
        seconds = f"{one.seconds:.0f}" if one.seconds else "cached"
        rows.append(
            f"{one.name:<13} {one.tag:<19} {one.digest[:19] or '(tag)':<21} {one.size / 1e6:>6.0f} {seconds:>8}"
        )
    return "\n".join(rows)


def build(names: list[str], registry: str, jobs: int = 2) -> list[Built]:
    """Build missing images.

    Raises:
        Failure: a name belongs to no image, or a build failed.
    """
    unknown = sorted(set(names) - set(IMAGES))
    if unknown:
        raise Failure(f"unknown image {', '.join(unknown)}; the names are {', '.join(IMAGES)}")
    return store.build(builders.choose(), names or list(IMAGES), registry, jobs)


def load(built: list[Built], registry: str) -> int:
    """Import missing images into the cluster's nodes; returns their number."""
    present = cluster.present_images()
    lacking = [one for one in built if not store.names(registry, one) <= present]
    if lacking:
        with phase(f"load {len(lacking)} images into every node"):
            cluster.import_archives([one.file for one in lacking])
    return len(lacking)


def compare(built: list[Built]) -> None:
    """Print how Debian packages differ from the record. Public base images are not recorded."""
    present = _debian(built)
    for line in packages.differences(packages.read(), present) if present else []:
        say(f"Debian package {line} (`python -m ci.images record` records it)")


def record(registry: str) -> None:
    """Record the versions of Debian packages in the base and in the images that add packages.

    Raises:
        Failure: the images use public base images.
    """
    present = _debian(build([image.name for image in IMAGES.values() if image.debian], registry))
    if not present:
        raise Failure("Debian packages are recorded only when buildah makes the base: stop Docker and run it again")
    packages.write(present)
    say(f"wrote {packages.LOCK}: {len(present)} packages")


def _debian(built: list[Built]) -> dict[str, str]:
    return {name: version for one in built for name, version in one.packages.items()}
