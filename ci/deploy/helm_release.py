"""Helm's release of the platform: its record, and how the charts of the checkout differ from it."""

from __future__ import annotations

import json
from typing import TypedDict

from ci.common.kube import PLATFORM, RELEASE, Object, on_cluster
from ci.common.kube import helm as helm_program
from ci.common.manifest import parse
from ci.common.paths import CHECKOUT
from ci.deploy import chart_values
from ci.deploy.charts import dependencies
from ci.deploy.drift import title_of

CHART = CHECKOUT / "charts" / "platform"


class HelmRelease(TypedDict):
    """A release as `helm list` returns it."""

    name: str
    namespace: str
    revision: str
    updated: str
    status: str  # deployed, failed, pending-upgrade, ...
    chart: str  # name and version
    app_version: str


def helm(*words: str, check: bool = True, timeout: float = 300) -> str:
    """Run helm on the current cluster and return its output."""
    return on_cluster(helm_program(), *words, check=check, timeout=timeout)


def release() -> HelmRelease | None:
    """Helm's release of the platform as `helm list` returns it; None if there is none."""
    releases: list[HelmRelease] = json.loads(helm("list", "-n", PLATFORM, "-a", "-f", f"^{RELEASE}$", "-o", "json"))
    return releases[0] if releases else None


def rendered(env: str, extra: list[str]) -> str:
    """The manifest of the umbrella chart, as a release records it: without tests."""
    dependencies()
    words = ["--skip-tests", *chart_values.value_arguments(env, extra)]
    return helm("template", RELEASE, str(CHART), "-n", PLATFORM, *words)


def changes(manifest: str) -> list[str]:
    """Names of the objects that differ between a manifest and Helm's record. Example: `Deployment/fastapi`."""
    wanted = objects(manifest)
    recorded = objects(helm("get", "manifest", RELEASE, "-n", PLATFORM, check=False))
    return sorted(name for name in wanted.keys() | recorded.keys() if wanted.get(name) != recorded.get(name))


def objects(manifest: str) -> dict[str, Object]:
    """Objects of a manifest by name. Example of a name: `Deployment/fastapi`."""
    return {title_of(item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item
            for item in parse(manifest)}  # fmt: skip
