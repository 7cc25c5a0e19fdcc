"""Each cell of the table in Chartfile.md matches the rendered charts."""

from __future__ import annotations

import re
from functools import cache

import pytest
import yaml

from ci.common.paths import CHECKOUT
from ci.deploy.charts import CHARTS, names
from ci.doctor.versions import OLDEST_KUBERNETES
from tests.charts.components import by_chart, environment, workloads_of
from tests.kit.rendering import COMPONENTS

COLUMNS = ["chart", "purpose", "images", "needs", "needed by", "ports"]
NONE = "-"


@cache
def table() -> dict[str, dict[str, str]]:
    """Cells by chart and column."""
    lines = [line for line in (CHECKOUT / "Chartfile.md").read_text().splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert head == COLUMNS
    charts = {re.sub(r"\[([\w-]+)\].*", r"\1", cells[0]): dict(zip(COLUMNS, cells, strict=True)) for cells in body}
    assert len(charts) == len(body), "a chart has two rows"
    return charts


def listed(chart: str, column: str) -> set[str]:
    """Names in a cell, including the optional ones in parentheses."""
    cell = table()[chart][column]
    return set() if cell == NONE else set(re.sub(r"[()]", "", cell).split(", "))


def optional(chart: str, column: str) -> set[str]:
    """Names in parentheses."""
    return {name for part in re.findall(r"\(([^)]+)\)", table()[chart][column]) for name in part.split(", ")}


def image_names(variant: str, chart: str) -> set[str]:
    """Image names, without registry and tag, of a component's pods and of the pods that it starts."""
    images = {container["image"] for pods in workloads_of(variant, chart) for container in pods.containers}
    images |= {value for key, value in environment(variant, chart).items() if key == "PIPELINE_IMAGE"}
    return {re.sub(r"[:@].*", "", image.rsplit("/", 1)[-1]) for image in images}


def needed(chart: str) -> set[str]:
    """Other components whose pods a component's NetworkPolicies let it call."""
    homes = {pods.labels["app.kubernetes.io/name"]: other
             for other in COMPONENTS for pods in workloads_of("everything", other)}  # fmt: skip
    policies = [item["spec"] for item in by_chart("everything")[chart] if item["kind"] == "NetworkPolicy"]
    servers = {peer["podSelector"]["matchLabels"].get("app.kubernetes.io/name")
               for spec in policies for rule in spec.get("egress", [])
               for peer in rule["to"] if "podSelector" in peer}  # fmt: skip
    return {homes[server] for server in servers if server} - {chart}


def test_every_chart_has_its_row() -> None:
    rows = list(table())
    assert (rows[0], rows[-1], sorted(rows[1:-1])) == ("lib", "platform", sorted(COMPONENTS))


@pytest.mark.parametrize("chart", COMPONENTS)
def test_row_comes_after_the_charts_that_it_requires(chart: str) -> None:
    rows = list(table())
    for other in listed(chart, "needs") - optional(chart, "needs"):
        assert rows.index(other) < rows.index(chart), f"{chart} needs {other}"


@pytest.mark.parametrize("chart", names())
def test_purpose_is_the_description_of_the_chart(chart: str) -> None:
    assert table()[chart]["purpose"] == yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())["description"]
    assert table()[chart]["chart"] == f"[{chart}](charts/{chart}/README.md)"


@pytest.mark.parametrize("chart", COMPONENTS)
def test_images_are_the_images_of_the_pods(chart: str) -> None:
    assert listed(chart, "images") == image_names("everything", chart)
    off_by_default = image_names("everything", chart) - image_names("kind", chart)
    assert optional(chart, "images") == off_by_default, "parentheses mark images that are off by default"


@pytest.mark.parametrize("chart", COMPONENTS)
def test_needs_are_the_components_that_network_policies_allow(chart: str) -> None:
    assert listed(chart, "needs") == needed(chart)


@pytest.mark.parametrize("chart", COMPONENTS)
def test_needed_by_is_the_inverse_of_needs(chart: str) -> None:
    others = [other for other in COMPONENTS if chart in listed(other, "needs")]
    assert listed(chart, "needed by") == set(others)
    assert optional(chart, "needed by") == {other for other in others if chart in optional(other, "needs")}


@pytest.mark.parametrize("chart", COMPONENTS)
def test_ports_are_the_ports_of_the_services(chart: str) -> None:
    ports = {variant: {str(port["port"]) for item in by_chart(variant)[chart] if item["kind"] == "Service"
                       for port in item["spec"]["ports"]} for variant in ("kind", "everything")}  # fmt: skip
    assert listed(chart, "ports") == ports["everything"]
    assert optional(chart, "ports") == ports["everything"] - ports["kind"]


def test_every_chart_needs_the_library_and_the_umbrella_needs_every_chart() -> None:
    depends = {chart: {item["name"] for item in yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
                       .get("dependencies", [])} for chart in names()}  # fmt: skip
    assert all("lib" in depends[chart] for chart in names() if chart != "lib")
    assert depends["platform"] == set(names()) - {"platform"}
    assert (table()["lib"]["needed by"], table()["platform"]["needs"]) == ("every chart", "every chart")
    for chart, columns in (("lib", ("images", "needs", "ports")),
                           ("platform", ("images", "needed by", "ports"))):  # fmt: skip
        assert {table()[chart][column] for column in columns} == {NONE}, chart


def test_every_chart_refuses_a_cluster_that_the_doctor_calls_too_old() -> None:
    oldest = ">={}.{}.0-0".format(*OLDEST_KUBERNETES)
    charts = {path.parent.name: yaml.safe_load(path.read_text()) for path in CHARTS.glob("*/Chart.yaml")}
    del charts["lib"]  # a library is never installed
    assert {name: chart.get("kubeVersion") for name, chart in charts.items()} == dict.fromkeys(charts, oldest)
