"""Chooses the image of the nodes: kind's official one, or one that is built here without a registry."""

from __future__ import annotations

import os

from ci.cluster import settings
from ci.cluster.docker import Docker
from ci.cluster.record import Record
from ci.cluster.registryless import node_image
from ci.common.console import phase, run, say


def choose_image(engine: Docker) -> str:
    """Make the node image present and return its name.

    The image is NODE_IMAGE if it is set, kind's official image if it can be pulled, else an image that is built here.
    """
    custom = os.environ.get("NODE_IMAGE", "")
    if custom:
        if not engine.has_image(custom):
            with phase(f"pull {custom}"):
                engine.run("pull", custom)
        return custom
    official = settings.OFFICIAL_IMAGE
    if engine.has_image(official):
        return official
    if engine.own and engine.has_image(node_image.name()):
        return node_image.name()
    say(f"pulling {official.partition('@')[0]}")
    done = run(["docker", "pull", official], env=engine.environment, check=False, timeout=1800)
    if done.returncode == 0:
        return official
    reason = (done.stderr.strip().splitlines() or ["docker gave no reason"])[-1]
    say(f"kind's official node image cannot be pulled ({reason[:200]}); building one from packages")
    return node_image.build(engine.environment)


def is_built_here(image: str) -> bool:
    """True if the node image was built here and not pulled."""
    return image.startswith(f"{node_image.REPOSITORY}:")


def outdated(record: Record) -> list[str]:
    """A sentence if the nodes have another image than a new cluster would get; else empty."""
    wanted = node_image.name() if is_built_here(record.image) else settings.OFFICIAL_IMAGE
    if record.image == wanted or os.environ.get("NODE_IMAGE"):
        return []
    return [f"the nodes use the image {record.image}, and a new cluster would use {wanted}"]
