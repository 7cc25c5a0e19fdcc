"""Traefik on the test cluster serves the Ingresses that the environments render."""

from __future__ import annotations

from pathlib import Path

import yaml

from ci.common.paths import CHECKOUT
from ci.traefik import build

MANIFESTS = list(yaml.safe_load_all((Path(build.__file__).parent / "traefik.yaml").read_text()))


def manifest(kind: str) -> dict[str, object]:
    """The one object of a kind."""
    [item] = [each for each in MANIFESTS if each["kind"] == kind]
    return dict(item)


def test_environments_with_ingresses_name_the_class_and_namespace_of_traefik() -> None:
    chosen = {}
    for file in (CHECKOUT / "values").glob("*.yaml"):
        ingress = ((yaml.safe_load(file.read_text()) or {}).get("global") or {}).get("ingress")
        if ingress:
            chosen[file.stem] = (ingress["className"], ingress["namespace"])
    here = (manifest("IngressClass")["metadata"]["name"], manifest("Deployment")["metadata"]["namespace"])  # type: ignore[index]
    assert chosen == {"vm": here, "prod": here}


def test_image_is_compiled_from_the_version_in_go_mod() -> None:
    made = build.image()
    assert f"{build.TRAEFIK} {build.VERSION}" in (made.context["go"] / "go.mod").read_text()
    assert made.tag("a base").startswith(f"{build.VERSION.removeprefix('v')}-")
