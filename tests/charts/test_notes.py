"""NOTES.txt, which Helm prints after an installation, renders for every chart and names objects that exist.

`helm template` does not print NOTES.txt, so the tests render its text as a ConfigMap in a copy of the chart.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import pytest

from ci.common.console import run
from ci.deploy import charts
from tests.kit.rendering import COMPONENTS, IMAGES, KUBE_API, OPEN_PAGES, find, name, objects, parse

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: notes\ndata:\n  text: |\n"
INGRESS = ("--set", "ingress.enabled=true,ingress.host=page.house.example,ingress.tlsSecret=house-tls")
CONSENT = ("--set", "ingress.iKnowThisIsOpen=true")


def notes(chart: str, folder: Path, *arguments: str) -> str:
    """The text of a chart's NOTES.txt with the default values and more arguments."""
    charts.dependencies()
    copy = folder / chart
    shutil.copytree(charts.CHARTS / chart, copy)
    text = (copy / "templates" / "NOTES.txt").read_text()
    (copy / "templates" / "notes.yaml").write_text(HEAD + textwrap.indent(text, "    "))
    command = [charts.helm(), "template", chart, str(copy), "-n", "mlops", "-f", str(IMAGES), *KUBE_API, *arguments]
    rendered = parse(run([*command, "--show-only", "templates/notes.yaml"]).stdout)
    return str(find(rendered, "ConfigMap", "notes", None)["data"]["text"])


@pytest.mark.parametrize("chart", [*COMPONENTS, "platform"])
def test_notes_name_objects_that_exist(chart: str, tmp_path: Path) -> None:
    text = notes(chart, tmp_path)
    present = {name(item) for item in objects("everything")} | {f"Service mlops/{each}" for each in COMPONENTS}
    kinds = {"svc": "Service", "deployment": "Deployment", "statefulset": "StatefulSet"}
    named = re.findall(r"\b(svc|deployment|statefulset)/([a-z0-9-]+)", text)
    assert named or chart == "fastapi", f"charts/{chart}: NOTES.txt names no object"
    for kind, wanted in named:
        assert f"{kinds[kind]} mlops/{wanted}" in present, f"charts/{chart}: NOTES.txt names {kind}/{wanted}"
    assert "<no value>" not in text


@pytest.mark.parametrize("chart", ["airflow", "fastapi", "minio", "mlflow", "streamlit"])
def test_notes_show_the_address_of_the_ingress(chart: str, tmp_path: Path) -> None:
    text = notes(chart, tmp_path, *INGRESS, *(CONSENT if f"{chart}.ingress" in OPEN_PAGES else ()))
    assert "https://page.house.example" in text
    assert "port-forward" not in text


def test_notes_of_the_umbrella_list_applications_if_argocd_delivers(tmp_path: Path) -> None:
    assert "-n argocd get applications" in notes("platform", tmp_path, "--set", "direct=false,argocd.repoUrl=https://x")
