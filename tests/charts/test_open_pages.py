"""An Ingress without a login behind it is refused, unless authentication is in front of it or the values consent."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.deploy.charts import CHARTS
from tests.kit.rendering import ENVIRONMENTS, KUBE_API, OPEN_PAGES, PAGES, Object, alone, find, objects, parse

# The only list of them is lib.authAnnotations; the comparison with the message below keeps both equal.
ANNOTATIONS = (
    "traefik.ingress.kubernetes.io/router.middlewares",
    "nginx.ingress.kubernetes.io/auth-url",
    "nginx.ingress.kubernetes.io/auth-type",
)
HOST = "page.house.example"
# Environments and the pages that they publish without a login, each with a comment in its values.
CONSENTS: dict[str, set[str]] = {"kind": set(), "vm": {"streamlit.ingress"}, "prod": {"streamlit.ingress"}}
HOW_TO = CHECKOUT / "docs" / "how-to" / "publish-a-page.md"
SECURITY = CHECKOUT / "SECURITY.md"


def publish(page: str, *arguments: str, **ingress: Any) -> list[Object]:
    """The objects of a page's chart, alone, with the Ingress of the page enabled and more of its values."""
    chart, _, path = page.partition(".")
    values = {"enabled": True, "host": HOST, **ingress}
    return parse(alone(chart, *KUBE_API, *arguments, "--set-json", f"{path}={json.dumps(values)}"))


def hosts(items: list[Object]) -> set[str]:
    """Host names of all Ingresses."""
    return {rule["host"] for item in items if item["kind"] == "Ingress" for rule in item["spec"]["rules"]}


def key(values: dict[str, Any], path: str) -> dict[str, Any]:
    """The values below a dotted path; empty if a part of it is not set."""
    for part in path.split("."):
        values = values.get(part, {})
    return values


def message(page: str) -> str:
    """The whole sentence that refuses a page."""
    own = "set fastapi.config.requireApiKey to true, " if page == "fastapi.ingress" else ""
    return (
        f"{page} has no login behind it: {own}"
        f"set an annotation in {page}.annotations that puts authentication in front ({' or '.join(ANNOTATIONS)}), "
        f"set {page}.iKnowThisIsOpen to true if everyone may use it, or set {page}.enabled to false\n"
    )


@pytest.mark.parametrize("page", OPEN_PAGES)
def test_page_without_a_login_is_refused(page: str) -> None:
    with pytest.raises(Failure) as refused:
        publish(page)
    assert message(page) in str(refused.value)


@pytest.mark.parametrize(
    "annotations",
    [
        dict.fromkeys(ANNOTATIONS, ""),
        {"nginx.ingress.kubernetes.io/rewrite-target": "/", "traefik.ingress.kubernetes.io/router.entrypoints": "web"},
    ],
    ids=["empty values", "other annotations"],
)
def test_annotation_without_authentication_is_refused(annotations: dict[str, str]) -> None:
    with pytest.raises(Failure, match=r"streamlit\.ingress has no login behind it"):
        publish("streamlit.ingress", annotations=annotations)


@pytest.mark.parametrize("annotation", ANNOTATIONS)
@pytest.mark.parametrize("page", OPEN_PAGES)
def test_annotation_with_authentication_is_enough(page: str, annotation: str) -> None:
    items = publish(page, annotations={annotation: "mlops-login@kubernetescrd"})
    assert hosts(items) == {HOST}
    [ingress] = [item for item in items if item["kind"] == "Ingress"]
    assert ingress["metadata"]["annotations"] == {annotation: "mlops-login@kubernetescrd"}


@pytest.mark.parametrize("page", OPEN_PAGES)
def test_consent_is_enough(page: str) -> None:
    assert hosts(publish(page, iKnowThisIsOpen=True)) == {HOST}


@pytest.mark.parametrize("page", OPEN_PAGES)
def test_consent_alone_publishes_nothing(page: str) -> None:
    assert hosts(publish(page, enabled=False, iKnowThisIsOpen=True)) == set()


def test_api_with_keys_needs_no_consent() -> None:
    assert hosts(publish("fastapi.ingress", "--set", "config.requireApiKey=true")) == {HOST}


@pytest.mark.parametrize("page", sorted(set(PAGES) - set(OPEN_PAGES)))
def test_page_with_a_login_needs_no_consent(page: str) -> None:
    """Grafana, Airflow, MLflow and the MinIO console refuse visitors without a password."""
    more = ("--set", "grafana.enabled=true") if page.endswith("grafana") else ()
    assert hosts(publish(page, *more)) == {HOST}


def test_refusal_appears_together_with_the_other_wrong_values() -> None:
    with pytest.raises(Failure, match=r"2 invalid value\(s\)") as refused:
        publish("streamlit.ingress", "--set", "resources.limits.memory=64Mi")
    assert "streamlit.resources.limits.memory (64Mi) is below" in str(refused.value)
    assert message("streamlit.ingress") in str(refused.value)


@pytest.mark.parametrize("page", PAGES)
def test_no_chart_consents_by_default(page: str) -> None:
    chart, _, path = page.partition(".")
    ingress = key(yaml.safe_load((CHARTS / chart / "values.yaml").read_text()), path)
    assert ingress["enabled"] is False
    assert ingress.get("iKnowThisIsOpen") is (False if page in OPEN_PAGES else None)


def test_environment_consents_only_where_its_values_explain_it(env: str) -> None:
    values = yaml.safe_load((CHECKOUT / "values" / f"{env}.yaml").read_text())
    assert {page for page in PAGES if key(values, page).get("iKnowThisIsOpen")} == CONSENTS[env]
    assert objects(env)
    assert set(CONSENTS) == set(ENVIRONMENTS)


def test_environment_does_not_publish_mlflow_and_prometheus(env: str) -> None:
    published = {item["metadata"]["name"] for item in objects(env) if item["kind"] == "Ingress"}
    assert not published & {"mlflow", "prometheus"}


def test_links_of_the_web_ui_lead_to_published_pages(env: str) -> None:
    settings = find(objects(env), "ConfigMap", "streamlit")["data"]
    links = {settings[name] for name in ("AIRFLOW_URL", "MLFLOW_URL", "GRAFANA_URL")} - {""}
    missing = {link for link in links if urlsplit(link).hostname not in hosts(objects(env))}
    assert not missing, f"values/{env}.yaml: no Ingress serves {sorted(missing)}"


def test_every_ingress_is_one_of_the_pages() -> None:
    """A new page must be in PAGES, and in OPEN_PAGES if it has no login."""
    assert len([item for item in objects("everything") if item["kind"] == "Ingress"]) == len(PAGES)


def test_guide_names_every_annotation() -> None:
    guide = HOW_TO.read_text()
    assert not [annotation for annotation in ANNOTATIONS if f"`{annotation}`" not in guide]


def test_table_of_access_has_every_address_and_every_published_page() -> None:
    """A new Service needs a row in SECURITY.md that says what it answers without a login."""
    section = SECURITY.read_text().partition("## Access without a login\n")[2].partition("\n## ")[0]
    rows = {line.split("`")[1]: line for line in section.splitlines() if line.startswith("| `")}
    services = [item for item in objects("everything") if item["kind"] == "Service"]
    addresses = {f"{item['metadata']['name']}:{port['port']}" for item in services for port in item["spec"]["ports"]}
    assert addresses <= set(rows), f"SECURITY.md has no row for {sorted(addresses - set(rows))}"
    for env in ENVIRONMENTS:
        published = {item["metadata"]["name"] for item in objects(env) if item["kind"] == "Ingress"}
        listed = {address for address, line in rows.items() if re.search(rf"Ingress in [^|]*`{env}`", line)}
        assert {address.partition(":")[0] for address in listed} == published, env
