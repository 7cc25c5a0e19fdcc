"""Build every image whose inputs changed, and put what is missing into the cluster.

    python -m ci.images build [NAME ...]   build, write values/images-<env>.yaml, print a table
    python -m ci.images load               build, and import into the cluster what its nodes lack
    python -m ci.images record             record the versions of Debian's packages, and build the images that add some
    python -m ci.images list               names of all images

With a Docker engine the Dockerfiles are built on public bases; without one, by buildah (root) on a Debian base made
here, from package registries alone. An image's tag is the hash of its inputs: what is built once is never built again.
"""

from __future__ import annotations

import argparse

from ci import cluster
from ci.console import Failure, main, phase, say
from ci.environments import known_env
from ci.gocache import trim_go_cache
from ci.images import builders, packages, store
from ci.images.catalog import IMAGES
from ci.images.commits import UNKNOWN
from ci.images.store import Built

REGISTRY = "localhost/house-platform"


def table(built: list[Built]) -> str:
    """The images as people read them."""
    rows = [f"{'image':<13} {'tag':<19} {'digest':<21} {'MB':>6} {'seconds':>8}"]
    for one in built:
        seconds = f"{one.seconds:.0f}" if one.seconds else "cached"
        rows.append(
            f"{one.name:<13} {one.tag:<19} {one.digest[:19] or '(tag)':<21} {one.size / 1e6:>6.0f} {seconds:>8}"
        )
    return "\n".join(rows)


def build(names: list[str], registry: str) -> list[Built]:
    """Build what is missing.

    Raises:
        Failure: a name is not known, or a build failed.
    """
    unknown = sorted(set(names) - set(IMAGES))
    if unknown:
        raise Failure(f"there is no image {', '.join(unknown)}; there are {', '.join(IMAGES)}")
    return store.build(builders.choose(), names or list(IMAGES), registry)


def load(built: list[Built], registry: str) -> int:
    """Import what the cluster's nodes lack; returns how many images that were."""
    present = cluster.present_images()
    lacking = [one for one in built if not store.names(registry, one) <= present]
    for one in lacking:
        with phase(f"load image {one.name}"):
            cluster.import_archive(one.file)
    return len(lacking)


def compare(built: list[Built]) -> None:
    """Say how Debian's packages differ from the record; nothing on public bases, which are no part of it."""
    present = _debian(built)
    for line in packages.differences(packages.read(), present) if present else []:
        say(f"Debian package {line} (`python -m ci.images record` records it)")


def record(registry: str) -> None:
    """Record the versions of Debian's packages in the base and in the images that add to it.

    Raises:
        Failure: the images are on public bases.
    """
    present = _debian(build([image.name for image in IMAGES.values() if image.debian], registry))
    if not present:
        raise Failure("Debian's packages are recorded where buildah makes the base: stop Docker for it")
    packages.write(present)
    say(f"wrote {packages.LOCK}: {len(present)} packages")


def _debian(built: list[Built]) -> dict[str, str]:
    return {name: version for one in built for name, version in one.packages.items()}


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["build", "load", "record", "list"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="images to build (default: all)")
    parser.add_argument(
        "--env", type=known_env, default="kind", help="environment whose images file is written (%(default)s)"
    )
    parser.add_argument("--registry", default=REGISTRY, help="registry and path in front of the names")
    options = parser.parse_args()
    if options.action == "list":
        for image in IMAGES.values():
            print(f"{image.name:<13} {image.title}")
        return
    if options.action == "record":
        record(options.registry)
        return
    built = build(options.names, options.registry)
    if not options.names:  # every time: what is loaded is what the values name, even if a source changed in between
        say(f"wrote {store.write_values(built, options.env)}")
        if unknown := [one.name for one in built if one.commit == UNKNOWN]:
            say(f"the commit of {', '.join(unknown)} is unknown: the checkout has not the history of Git that tells it")
    if any(one.seconds for one in built):
        trim_go_cache()
    compare(built)
    if options.action == "load":
        say(f"loaded {load(built, options.registry)} images; the cluster has all {len(built)}")
    else:
        print(table(built), flush=True)


if __name__ == "__main__":
    main(_main)
