"""Rendering is pure and independent of the release name, and a change of configuration restarts the right pods."""

from __future__ import annotations

import re

import pytest

from ci.common.paths import CHECKOUT
from ci.deploy import charts
from tests.kit.rendering import (
    IMAGES,
    KUBE_API,
    VARIANTS,
    Object,
    find,
    is_hook,
    objects,
    parse,
    text,
)

TEMPLATES = sorted(path for path in CHECKOUT.glob("charts/*/templates/**/*") if path.suffix in (".yaml", ".tpl"))
PURE = re.compile(r"\b(lookup|now|date|genCA|genSelfSignedCert|genPrivateKey|rand\w+|uuidv4|htpasswd)\b|\.Capabilities")

# Changes of configuration values, and the workloads that must restart.
CHANGES = {
    "fastapi.config.pollSeconds=7": {"Deployment fastapi"},
    'streamlit.config.airflowUrl="http://airflow.example"': {"Deployment streamlit"},
    "datasource.config.scale=0.5": {"Deployment datasource"},
    "airflow.parallelism=3": {
        "Deployment airflow-api",
        "Deployment airflow-scheduler",
        "Deployment airflow-dag-processor",
    },
    "airflow.pipeline.config.seed=8": set(),  # every stage is a new pod
    'mlflow.allowedHosts=["models.example"]': {"Deployment mlflow"},
    'monitoring.alertmanager.config.route.group_wait="5s"': {"Deployment alertmanager"},
    'monitoring.alertmanager.receivers.webhook.enabled=true,global.notifications.cidr="10.43.100.104/32"': {
        "Deployment alertmanager"
    },
    "monitoring.prometheus.scrapeIntervalSeconds=20": {"StatefulSet prometheus"},
    'postgres.settings.max_connections="120"': {"StatefulSet postgres"},
}


def test_rendering_twice_is_identical(variant: str) -> None:
    env, arguments = VARIANTS[variant]
    values = ("-f", str(CHECKOUT / "values" / f"{env}.yaml"), "-f", str(IMAGES), *KUBE_API, *arguments)
    assert charts.template("platform", *values) == text(env, *arguments)


def test_names_do_not_depend_on_the_release(variant: str) -> None:
    env, arguments = VARIANTS[variant]
    assert text(env, *arguments, release="another") == text(env, *arguments)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(CHECKOUT / "charts")))
def test_template_depends_on_its_values_only(template: object) -> None:
    source = re.sub(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", "", template.read_text(), flags=re.S)  # type: ignore[attr-defined]
    for action in re.findall(r"\{\{.*?\}\}", source, flags=re.S):
        assert not (impure := PURE.search(action)), f"{impure.group()} in {action}"


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_configuration_restarts_exactly_the_pods_that_read_it(change: str) -> None:
    before, after = objects("kind"), parse(text("kind", "--set-json", change))
    assert before != after, f"{change} changes nothing"
    assert _changed(before, after) == CHANGES[change]


def test_every_workload_with_a_configmap_has_a_checksum() -> None:
    """Except Jobs, which have a hash in their name."""
    for item in objects("everything"):
        if item["kind"] in ("Deployment", "StatefulSet") and "configMap" in str(item["spec"]["template"]["spec"]):
            annotations = item["spec"]["template"]["metadata"].get("annotations", {})
            assert "checksum/config" in annotations, f"{item['kind']} {item['metadata']['name']}: no checksum/config"


@pytest.mark.parametrize(
    ("change", "job"),
    [('minio.buckets.more={"user": "mlflow", "versioned": false}', "minio-provision"),
     ('global.images.airflow.tag="0.1.0-000000000000"', "airflow-migrate")],
)  # fmt: skip
def test_changed_content_creates_another_job(change: str, job: str) -> None:
    """The template of a Job is immutable, so its name contains a hash of its content."""
    before, after = (_jobs(items, job) for items in (objects("kind"), parse(text("kind", "--set-json", change))))
    assert before[0]["metadata"]["name"] != after[0]["metadata"]["name"]


def test_jobs_with_the_same_name_are_identical() -> None:
    """A value that changes the template of a Job must change its name, or `helm upgrade` fails."""
    for change in ('global.imageRegistry="registry.example/house"', *CHANGES):
        after = parse(text("kind", "--set-json", change))
        for item in (item for item in objects("kind") if item["kind"] == "Job" and not is_hook(item)):
            same = [
                job for job in after if job["kind"] == "Job" and job["metadata"]["name"] == item["metadata"]["name"]
            ]
            assert same in ([], [item]), f"{change} changes Job {item['metadata']['name']} in place"


def _jobs(items: list[Object], prefix: str) -> list[Object]:
    return [item for item in items if item["kind"] == "Job" and item["metadata"]["name"].startswith(prefix)]


def _changed(before: list[Object], after: list[Object]) -> set[str]:
    changed = set()
    for item in before:
        if item["kind"] in ("Deployment", "StatefulSet", "Job") and not is_hook(item):
            other = find(after, item["kind"], item["metadata"]["name"])
            if item["spec"]["template"] != other["spec"]["template"]:
                changed.add(f"{item['kind']} {item['metadata']['name']}")
    return changed
