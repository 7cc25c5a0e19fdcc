"""Which component renders what."""

from __future__ import annotations

import re
from functools import cache

from tests.charts.rendering import COMPONENTS, VARIANTS, Object, Workload, parse, pod_template, text


@cache
def by_chart(variant: str) -> dict[str, list[Object]]:
    """The objects of each component; none where the variant leaves it out."""
    env, arguments = VARIANTS[variant]
    found: dict[str, list[Object]] = {chart: [] for chart in COMPONENTS}
    for document in text(env, *arguments).split("\n---\n"):
        if source := re.search(r"^# Source: platform/charts/([^/]+)/", document, flags=re.M):
            found[source[1]] += parse(document)
    return found


def workloads_of(variant: str, chart: str) -> list[Workload]:
    """What of a component makes pods."""
    return [Workload(variant, item) for item in by_chart(variant)[chart] if pod_template(item)]


def environment(variant: str, chart: str) -> dict[str, str]:
    """What a component's ConfigMaps hold."""
    return {key: value for item in by_chart(variant)[chart] if item["kind"] == "ConfigMap"
            for key, value in item["data"].items()}  # fmt: skip
