"""Ingresses of pages lead to the login of the platform, unless the values consent to a page that is open to all."""

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
from tests.kit.rendering import (
    BEHIND_LOGIN,
    ENVIRONMENTS,
    KUBE_API,
    OPEN_PAGES,
    PAGES,
    Object,
    alone,
    find,
    objects,
    parse,
    text,
)

# The only list of them is lib.authAnnotations; the comparison with the message below keeps both equal.
ANNOTATIONS = (
    "traefik.ingress.kubernetes.io/router.middlewares",
    "nginx.ingress.kubernetes.io/auth-url",
    "nginx.ingress.kubernetes.io/auth-type",
)
HOST = "page.house.example"
LOGIN = "oauth2-proxy"
PORTS = {
    "airflow.ingress": 8080,
    "fastapi.ingress": 8000,
    "mlflow.ingress": 5000,
    "monitoring.ingress.prometheus": 9090,
    "streamlit.ingress": 8501,
}
CONTROLLER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
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


def backends(items: list[Object]) -> set[tuple[str, int]]:
    """Services and ports that the Ingresses lead to."""
    rules = [rule for item in items if item["kind"] == "Ingress" for rule in item["spec"]["rules"]]
    services = [path["backend"]["service"] for rule in rules for path in rule["http"]["paths"]]
    return {(service["name"], service["port"]["number"]) for service in services}


def server(page: str) -> str:
    """The server of a page: `prometheus` of `monitoring.ingress.prometheus`, `streamlit` of `streamlit.ingress`."""
    chart, _, rest = page.partition(".")
    return rest.rpartition(".")[2] if chart == "monitoring" else {"airflow": "airflow-api"}.get(chart, chart)


def admits_controller(items: list[Object], page: str) -> bool:
    """True if the policy of the page's pods admits the ingress controller."""
    policy = find(items, "NetworkPolicy", server(page))
    return any(CONTROLLER in rule["from"] for rule in policy["spec"]["ingress"])


def key(values: dict[str, Any], path: str) -> dict[str, Any]:
    """The values below a dotted path; empty if a part of it is not set."""
    for part in path.split("."):
        values = values.get(part, {})
    return values


API_WITHOUT_KEYS = (
    "fastapi.ingress has no login behind it: set fastapi.config.requireApiKey to true, set an annotation in "
    f"fastapi.ingress.annotations that puts authentication in front ({' or '.join(ANNOTATIONS)}), "
    "set fastapi.ingress.iKnowThisIsOpen to true if everyone may use it, or set fastapi.ingress.enabled to false\n"
)
REDIRECT = {"traefik.ingress.kubernetes.io/router.middlewares": "kube-system-redirect-https@kubernetescrd"}
NO_AUTHENTICATION = [
    {},
    dict.fromkeys(ANNOTATIONS, ""),
    {"nginx.ingress.kubernetes.io/rewrite-target": "/", "traefik.ingress.kubernetes.io/router.entrypoints": "web"},
]


def plain(page: str) -> str:
    """The sentence that refuses a login over plain HTTP."""
    return (
        f"{page}.tlsSecret is empty, so the login would send passwords in plain text: set it to the name of a TLS "
        "Secret, or, in a network that you trust, set global.login.plainHttp to true\n"
    )


@pytest.mark.parametrize(
    "annotations", [*NO_AUTHENTICATION, REDIRECT], ids=["none", "empty values", "others", "middleware"]
)
@pytest.mark.parametrize("page", BEHIND_LOGIN)
def test_ingress_leads_to_the_login_and_the_page_admits_no_controller(page: str, annotations: dict[str, str]) -> None:
    items = publish(page, tlsSecret="house-tls", annotations=annotations)
    assert hosts(items) == {HOST}
    assert backends(items) == {(LOGIN, PORTS[page])}
    assert not admits_controller(items, page)


@pytest.mark.parametrize("page", BEHIND_LOGIN)
def test_login_over_plain_http_needs_consent(page: str) -> None:
    with pytest.raises(Failure) as refused:
        publish(page)
    assert plain(page) in str(refused.value)
    with pytest.raises(Failure, match=r"tlsSecret is set, and global\.login\.plainHttp is true"):
        publish(page, "--set", "global.login.plainHttp=true", tlsSecret="house-tls")
    assert backends(publish(page, "--set", "global.login.plainHttp=true")) == {(LOGIN, PORTS[page])}


@pytest.mark.parametrize("page", PAGES)
def test_ingress_with_tls_is_not_served_over_plain_http_unless_the_values_say_so(page: str) -> None:
    more = ("--set", "grafana.enabled=true") if page.endswith("grafana") else ()
    more += ("--set", "config.requireApiKey=true") if page.startswith("fastapi") else ()
    chosen = {"traefik.ingress.kubernetes.io/router.entrypoints": "internal"}
    for extra, wanted in (
        ({}, {"traefik.ingress.kubernetes.io/router.entrypoints": "websecure"}),
        (chosen, chosen),
    ):
        items = publish(page, *more, tlsSecret="house-tls", annotations=extra)
        [ingress] = [item for item in items if item["kind"] == "Ingress"]
        assert ingress["metadata"]["annotations"] == wanted
    without = ("--set", "global.login.plainHttp=true")
    [ingress] = [item for item in publish(page, *more, *without) if item["kind"] == "Ingress"]
    assert "annotations" not in ingress["metadata"]


@pytest.mark.parametrize("direct", ["true", "false"], ids=["Helm", "Argo CD"])
@pytest.mark.parametrize("page", BEHIND_LOGIN)
def test_ingress_to_a_login_that_is_left_out_is_refused(page: str, direct: str) -> None:
    values = json.dumps({"enabled": True, "host": HOST, "tlsSecret": "house-tls"})
    without = ("--set", f"direct={direct},oauth2-proxy.enabled=false,argocd.repoUrl=https://git.example/house.git")
    with pytest.raises(Failure) as refused:
        text("kind", *without, "--set-json", f"{page}={values}")
    assert (
        f"{page} leads to the login, and oauth2-proxy.enabled is false: remove oauth2-proxy.enabled, or set "
        f"{page}.enabled to false" in str(refused.value)
    )
    text("kind", *without)
    if page in OPEN_PAGES:
        text("kind", *without, "--set-json", f"{page}={values}", "--set", f"{page}.iKnowThisIsOpen=true")


@pytest.mark.parametrize("annotations", NO_AUTHENTICATION, ids=["none", "empty values", "others"])
def test_api_without_keys_is_refused(annotations: dict[str, str]) -> None:
    with pytest.raises(Failure) as refused:
        publish("fastapi.ingress", annotations=annotations)
    assert API_WITHOUT_KEYS in str(refused.value)


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_api_with_authentication_in_front_needs_no_key(annotation: str) -> None:
    page = "fastapi.ingress"
    items = publish(page, annotations={annotation: "mlops-login@kubernetescrd"})
    assert backends(items) == {(server(page), PORTS[page])}
    assert admits_controller(items, page)
    [ingress] = [item for item in items if item["kind"] == "Ingress"]
    assert ingress["metadata"]["annotations"] == {annotation: "mlops-login@kubernetescrd"}


@pytest.mark.parametrize("page", OPEN_PAGES)
def test_consent_leads_to_the_page(page: str) -> None:
    items = publish(page, iKnowThisIsOpen=True)
    assert hosts(items) == {HOST}
    assert backends(items) == {(server(page), PORTS[page])}
    assert admits_controller(items, page)


@pytest.mark.parametrize("page", OPEN_PAGES)
def test_consent_alone_publishes_nothing(page: str) -> None:
    items = publish(page, enabled=False, iKnowThisIsOpen=True)
    assert hosts(items) == set()
    assert not admits_controller(items, page)


def test_api_with_keys_needs_no_consent() -> None:
    assert hosts(publish("fastapi.ingress", "--set", "config.requireApiKey=true")) == {HOST}


@pytest.mark.parametrize("page", sorted(set(PAGES) - set(PORTS)))
def test_page_with_a_login_needs_no_consent(page: str) -> None:
    """Grafana and the MinIO console refuse visitors without a password."""
    more = ("--set", "grafana.enabled=true") if page.endswith("grafana") else ()
    assert hosts(publish(page, *more)) == {HOST}


def test_refusal_appears_together_with_the_other_wrong_values() -> None:
    with pytest.raises(Failure, match=r"2 invalid value\(s\)") as refused:
        publish("streamlit.ingress", "--set", "resources.limits.memory=64Mi")
    assert "streamlit.resources.limits.memory (64Mi) is below" in str(refused.value)
    assert plain("streamlit.ingress") in str(refused.value)


@pytest.mark.parametrize("page", PAGES)
def test_no_chart_consents_by_default(page: str) -> None:
    chart, _, path = page.partition(".")
    ingress = key(yaml.safe_load((CHARTS / chart / "values.yaml").read_text()), path)
    assert ingress["enabled"] is False
    assert ingress.get("iKnowThisIsOpen") is (False if page in OPEN_PAGES else None)


def test_no_environment_publishes_a_page_without_a_login(env: str) -> None:
    values = yaml.safe_load((CHECKOUT / "values" / f"{env}.yaml").read_text())
    assert not [page for page in PAGES if key(values, page).get("iKnowThisIsOpen")]


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
        published = {f"{name}:{port}" for name, port in backends(objects(env))}
        listed = {address for address, line in rows.items() if re.search(rf"Ingress in [^|]*`{env}`", line)}
        assert listed == published, env
