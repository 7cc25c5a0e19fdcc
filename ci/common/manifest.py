"""Parses manifests in YAML. Needs no cluster, but PyYAML, which a bundle does not have."""

from __future__ import annotations

import yaml

from ci.common.kube import Object


def parse(text: str) -> list[Object]:
    """The objects of a manifest, without empty documents."""
    return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]
