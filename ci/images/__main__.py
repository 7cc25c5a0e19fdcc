"""Build every image whose inputs changed, and load missing images into the cluster.

    python -m ci.images build [NAME ...]   build, write values/images-<env>.yaml, print a table
    python -m ci.images load               build, and import missing images into the nodes
    python -m ci.images record             record versions of Debian packages, and build the images that add packages
    python -m ci.images list               names of all images

With a Docker engine, Dockerfiles are built on public base images. Without one, buildah (as root) builds them on a
Debian base from package registries. The tag of an image is the hash of its inputs, so an image is built only once.
"""

from __future__ import annotations

import argparse

from ci.common.console import main, say
from ci.common.environments import known_env
from ci.common.gocache import trim_go_cache
from ci.images import store
from ci.images.actions import build, compare, load, record, table
from ci.images.catalog import IMAGES, REGISTRY
from ci.images.commits import UNKNOWN


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
    parser.add_argument(
        "--jobs", type=int, choices=[1, 2], default=2, help="images that are built at the same time (%(default)s)"
    )
    options = parser.parse_args()
    if options.action == "list":
        for image in IMAGES.values():
            print(f"{image.name:<13} {image.title}")
        return
    if options.action == "record":
        record(options.registry)
        return
    built = build(options.names, options.registry, options.jobs)
    if (
        not options.names
    ):  # always write it, so that the values refer to the loaded images even if a source changed meanwhile
        say(f"wrote {store.write_values(built, options.env)}")
        if unknown := [one.name for one in built if one.commit == UNKNOWN]:
            say(f"the commit of {', '.join(unknown)} is unknown: the checkout does not have enough Git history")
    if any(one.seconds for one in built):
        trim_go_cache()
    compare(built)
    if options.action == "load":
        say(f"loaded {load(built, options.registry)} images; the cluster has all {len(built)}")
    else:
        print(table(built), flush=True)


if __name__ == "__main__":
    main(_main)
