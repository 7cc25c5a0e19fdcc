"""The objects that each component renders."""

from __future__ import annotations

import re
from functools import cache

from tests.kit.rendering import COMPONENTS, VARIANTS, Object, Workload, parse, pod_template, text


@cache
def by_chart(variant: str) -> dict[str, list[Object]]:
    """Objects by component; empty for a component that the variant leaves out."""
    env, arguments = VARIANTS[variant]
    rendered: dict[str, list[Object]] = {chart: [] for chart in COMPONENTS}
    for document in text(env, *arguments).split("\n---\n"):
        if source := re.search(r"^# Source: platform/charts/([^/]+)/", document, flags=re.M):
            rendered[source[1]] += parse(document)
    return rendered


def workloads_of(variant: str, chart: str) -> list[Workload]:
    """The objects of a component that create pods."""
    return [Workload(variant, item) for item in by_chart(variant)[chart] if pod_template(item)]


def environment(variant: str, chart: str) -> dict[str, str]:
    """The data of all ConfigMaps of a component."""
    return {key: value for item in by_chart(variant)[chart] if item["kind"] == "ConfigMap"
            for key, value in item["data"].items()}  # fmt: skip
