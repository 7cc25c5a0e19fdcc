"""The files in argocd/ match the rendered charts, and allow nothing beyond them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci.common.console import Failure, run
from ci.common.kube import helm
from ci.common.paths import CHECKOUT
from ci.deploy import charts
from tests.charts.applications import ARGO, REPOSITORY, applications, canonical
from tests.kit.rendering import ENVIRONMENTS, IMAGES, KUBE_API, VARIANTS, Object, objects, parse, text

ARGOCD = CHECKOUT / "argocd"
PROJECTS = ("project.yaml", "project-root.yaml")  # components, root
REVISION = "0123abc"  # as in ARGO
SERVER = "https://kubernetes.default.svc"


def read(name: str) -> Object:
    """The object of a file. A duplicate key is an error."""
    [item] = parse((ARGOCD / name).read_text())
    return item


def arguments(root: Object, folder: Path, checkout: Path = CHECKOUT) -> list[str]:
    """Helm's arguments for a root Application, in Argo CD's order: files, valuesObject, parameters.

    CI commits the images file with a release; here a test file replaces it.
    """
    source = root["spec"]["source"]
    helm, words = source["helm"], []
    for file in helm["valueFiles"]:
        path = (checkout / source["path"] / file).resolve()
        words += ["-f", str(IMAGES if path.name.startswith("images-") else path)]
    (folder / "values.yaml").write_text(yaml.safe_dump(helm["valuesObject"]))
    words += ["-f", str(folder / "values.yaml")]
    for parameter in helm["parameters"]:
        value = parameter["value"].replace("$ARGOCD_APP_REVISION", REVISION)
        words += ["--set-string" if parameter.get("forceString") else "--set", f"{parameter['name']}={value}"]
    return words


def strings(value: Any) -> list[str]:
    """Every string in a tree."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_roots_differ_only_in_the_name_of_the_environment() -> None:
    assert {path.name for path in ARGOCD.glob("root-*.yaml")} == {f"root-{env}.yaml" for env in ENVIRONMENTS}
    vm = (ARGOCD / "root-vm.yaml").read_text()
    for env in ENVIRONMENTS:
        assert (ARGOCD / f"root-{env}.yaml").read_text() == vm.replace("vm", env), f"root-{env}.yaml"


def test_root_reads_the_values_of_its_environment(env: str) -> None:
    source = read(f"root-{env}.yaml")["spec"]["source"]
    assert source["helm"]["valueFiles"] == [f"../../values/{env}.yaml", f"../../values/images-{env}.yaml"]
    assert (CHECKOUT / source["path"] / source["helm"]["valueFiles"][0]).exists()
    assert "ignoreMissingValueFiles" not in source["helm"], "a missing images file must be an error"


def test_root_renders_the_applications(env: str, tmp_path: Path) -> None:
    """They are the Applications that `test_delivery` compares with `helm install`, at the commit of the root."""
    root = read(f"root-{env}.yaml")
    rendered = parse(charts.template("platform", *arguments(root, tmp_path), *KUBE_API, namespace="argocd"))
    assert rendered == applications(env)
    assert {item["spec"]["source"]["targetRevision"] for item in rendered} == {REVISION}


def test_root_has_what_argocd_needs(env: str) -> None:
    root = read(f"root-{env}.yaml")
    spec, child = root["spec"], applications(env)[0]
    assert (root["apiVersion"], root["kind"]) == (child["apiVersion"], child["kind"])
    assert root["metadata"] == {"name": "house-platform", "namespace": "argocd"}
    assert set(spec) == {"project", "source", "destination", "syncPolicy"}
    assert set(spec["source"]) == {"repoURL", "targetRevision", "path", "helm"}
    assert spec["source"]["targetRevision"] == "main"
    assert spec["destination"] == {"server": SERVER, "namespace": child["metadata"]["namespace"]}
    retry = {
        "limit": -1,
        **{key: value for key, value in child["spec"]["syncPolicy"]["retry"].items() if key != "limit"},
    }
    assert spec["syncPolicy"] == {**child["spec"]["syncPolicy"], "retry": retry}, (
        "apart from retries, the root and the components are synced alike"
    )


def test_one_repository_everywhere(env: str) -> None:
    root = read(f"root-{env}.yaml")["spec"]["source"]
    assert [read(file)["spec"]["sourceRepos"] for file in PROJECTS] == [[REPOSITORY]] * 2
    assert (root["repoURL"], root["helm"]["valuesObject"]["argocd"]["repoUrl"]) == (REPOSITORY, REPOSITORY)


def test_every_application_belongs_to_its_project() -> None:
    components, root = (read(file)["metadata"] for file in PROJECTS)
    for env in ENVIRONMENTS:
        for item, project in ((read(f"root-{env}.yaml"), root), *((item, components) for item in applications(env))):
            where = f"{env}: Application {item['metadata']['name']}"
            assert item["spec"]["project"] == project["name"], where
            assert item["metadata"]["namespace"] == project["namespace"], where


def rendered_for(file: str) -> list[Object]:
    """The objects that a project must allow: the components' objects, or the Applications."""
    render = objects if file == "project.yaml" else applications
    return [item for variant in VARIANTS for item in render(variant)]


@pytest.mark.parametrize("file", PROJECTS)
def test_project_allows_exactly_the_kinds_that_are_rendered(file: str) -> None:
    for field, namespaced in (("clusterResourceWhitelist", False), ("namespaceResourceWhitelist", True)):
        kinds = {(item["apiVersion"].rpartition("/")[0], item["kind"]) for item in rendered_for(file)
                 if ("namespace" in item["metadata"]) is namespaced}  # fmt: skip
        allowed = [(entry["group"], entry["kind"]) for entry in read(file)["spec"][field]]
        assert sorted(allowed) == sorted(kinds), f"spec.{field}"


@pytest.mark.parametrize("file", PROJECTS)
def test_project_allows_exactly_the_namespaces_that_are_rendered(file: str) -> None:
    spaces = {item["metadata"]["namespace"] for item in rendered_for(file) if "namespace" in item["metadata"]}
    assert read(file)["spec"]["destinations"] == [{"server": SERVER, "namespace": space} for space in sorted(spaces)]


def test_default_project_is_closed() -> None:
    """Otherwise an Application that names it may do everything."""
    project = read("project-default.yaml")
    assert project["metadata"]["name"] == "default"
    assert [value for key, value in project["spec"].items() if key != "description"] == [[]] * 4


def test_no_wildcards() -> None:
    for path in ARGOCD.glob("*.yaml"):
        assert [word for word in strings(read(path.name)) if "*" in word] == [], path.name
    for file in (*PROJECTS, "project-default.yaml"):
        assert set(read(file)["spec"]) == {
            "description", "sourceRepos", "destinations", "clusterResourceWhitelist", "namespaceResourceWhitelist",
        }, file  # fmt: skip


def test_root_without_the_address_of_the_api_server_fails() -> None:
    """The root fails at once; otherwise two components would fail later."""
    with pytest.raises(Failure, match=r"global\.kubeApi\.cidr is empty: set it to the API server's address"):
        text("vm", *ARGO, "--set", "global.kubeApi.cidr=")
    assert parse(text("vm", *ARGO, "--set", "global.kubeApi.cidr=,airflow.enabled=false,monitoring.enabled=false"))


def test_fresh_checkout_renders_after_helm_dependency_build(env: str, tmp_path: Path) -> None:
    """Argo CD runs `helm dependency build` only. It is not recursive, and a checkout has no packaged charts."""
    for folder in ("charts", "values"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder, ignore=_ignored)
    helm_folders = {f"HELM_{name}_HOME": str(tmp_path / "helm") for name in ("CACHE", "CONFIG", "DATA")}

    def render(chart: str, namespace: str, *words: str) -> list[Object]:
        folder = tmp_path / "charts" / chart
        assert not (folder / "charts").exists()
        run([helm(), "dependency", "build", str(folder)], env={**os.environ, **helm_folders})
        return parse(charts.template(str(folder), *words, namespace=namespace))

    root = read(f"root-{env}.yaml")
    rendered = render("platform", "argocd", *arguments(root, tmp_path, tmp_path), *KUBE_API)
    assert rendered == applications(env)
    delivered: list[Object] = []
    for application in rendered:
        name, values = application["metadata"]["name"], tmp_path / "component.yaml"
        values.write_text(yaml.safe_dump(application["spec"]["source"]["helm"]["valuesObject"]))
        delivered += render(name, application["spec"]["destination"]["namespace"], "-f", str(values))
    assert canonical(delivered) == canonical(objects(env))


def _ignored(folder: str, entries: list[str]) -> list[str]:
    """Files that are not in Git: packaged dependencies and Chart.lock."""
    packaged = "charts" if Path(folder).parent.name == "charts" else ""
    return [entry for entry in entries if entry in (packaged, "Chart.lock")]
