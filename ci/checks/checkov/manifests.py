"""Renders the manifests that Checkov reads."""

from __future__ import annotations

from pathlib import Path

from ci.common.paths import CHECKOUT
from ci.deploy import charts

MANIFESTS = CHECKOUT / "build" / "checkov"
# Stand-ins for what an environment gets from a release and from its cluster.
IMAGES = CHECKOUT / "tests" / "kit" / "images.yaml"
KUBE_API = ("--set-json", 'global.kubeApi.cidr="192.0.2.1/32"')


def render(env: str) -> Path:
    """Write the manifests of an environment, without tests of the release; returns the file."""
    values = ("-f", str(CHECKOUT / "values" / f"{env}.yaml"), "-f", str(IMAGES), *KUBE_API)
    file = MANIFESTS / f"{env}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(charts.template("platform", "--skip-tests", *values))
    return file
