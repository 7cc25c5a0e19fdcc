"""The Applications that the umbrella chart renders for Argo CD, and the objects that Argo CD renders for them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import yaml

from ci.deploy import charts
from tests.kit.rendering import VARIANTS, Object, name, parse, text

REPOSITORY = "https://github.com/house-platform/house-platform"
ARGO = ("--set", f"direct=false,argocd.repoUrl={REPOSITORY},argocd.targetRevision=0123abc")


@cache
def applications(variant: str) -> list[Object]:
    """The Applications that the umbrella renders for Argo CD."""
    env, arguments = VARIANTS[variant]
    return parse(text(env, *arguments, *ARGO))


def through_argocd(application: Object, folder: Path) -> list[Object]:
    """The objects that Argo CD renders for an Application, from its chart, values, release name and namespace."""
    source = application["spec"]["source"]
    values = folder / f"{application['metadata']['name']}.yaml"
    values.write_text(yaml.safe_dump(source["helm"]["valuesObject"]))
    rendered = charts.template(
        source["path"].removeprefix("charts/"), "-f", str(values),
        release=source["helm"]["releaseName"], namespace=application["spec"]["destination"]["namespace"],
    )  # fmt: skip
    return parse(rendered)


def canonical(items: list[Object]) -> dict[str, str]:
    """Objects as text by name, for comparison."""
    return {name(item): json.dumps(item, sort_keys=True, indent=1) for item in items}
