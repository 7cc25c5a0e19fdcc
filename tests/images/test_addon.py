"""The tag of an add-on's image changes with everything that the image is made of."""

from __future__ import annotations

from dataclasses import replace

from ci.images.addon import AddOn
from ci.images.catalog import Image

ADDON = AddOn(Image("tool", "A tool", "Dockerfile", ()), "v1.2.3", {}, (b"FROM scratch", b"program"))


def test_tag_has_the_version_and_depends_on_base_and_inputs() -> None:
    others = [
        ADDON.tag("another base"),
        replace(ADDON, inputs=(b"FROM scratch", b"another")).tag("base"),
        replace(ADDON, inputs=(b"FROM scratchprogram", b"")).tag("base"),
        replace(ADDON, inputs=(b"FROM scratch",)).tag("base"),
    ]
    tags = {ADDON.tag("base"), *others}
    assert len(tags) == 1 + len(others)
    assert all(tag.startswith("1.2.3-") for tag in tags)
    assert ADDON.tag("base") == replace(ADDON).tag("base")
