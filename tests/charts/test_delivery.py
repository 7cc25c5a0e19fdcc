"""Argo CD and `helm install` deliver the same objects, and each component stands alone."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import yaml

from ci import charts
from tests.charts.rendering import COMPONENTS, KUBE_API, VARIANTS, Object, alone, name, objects, parse, text

REPOSITORY = "https://github.com/house-platform/house-platform"
ARGO = ("--set", f"direct=false,argocd.repoUrl={REPOSITORY},argocd.targetRevision=0123abc")
# Components whose data must outlive their Application.
STATEFUL = {"postgres", "minio"}
ALWAYS = set(COMPONENTS) - {"datasource"}


@cache
def applications(variant: str) -> list[Object]:
    """What the umbrella renders for Argo CD."""
    env, arguments = VARIANTS[variant]
    return parse(text(env, *arguments, *ARGO))


def through_argocd(application: Object, folder: Path) -> list[Object]:
    """What Argo CD renders for an Application: its chart with its values, release name and namespace."""
    source = application["spec"]["source"]
    values = folder / f"{application['metadata']['name']}.yaml"
    values.write_text(yaml.safe_dump(source["helm"]["valuesObject"]))
    rendered = charts.template(
        source["path"].removeprefix("charts/"), "-f", str(values),
        release=source["helm"]["releaseName"], namespace=application["spec"]["destination"]["namespace"],
    )  # fmt: skip
    return parse(rendered)


def canonical(items: list[Object]) -> dict[str, str]:
    """Object names and contents, comparable."""
    return {name(item): json.dumps(item, sort_keys=True, indent=1) for item in items}


def test_both_ways_render_the_same_objects(variant: str, tmp_path: Path) -> None:
    direct = canonical(objects(variant))
    rendered = [item for application in applications(variant) for item in through_argocd(application, tmp_path)]
    argocd = canonical(rendered)
    assert len(argocd) == len(rendered), "two Applications deliver the same object"
    assert set(argocd) == set(direct), f"only one way: {sorted(set(argocd) ^ set(direct))}"
    for item, wanted in direct.items():
        assert argocd[item] == wanted, f"{item} differs between `helm install` and Argo CD"


def test_umbrella_renders_applications_only_where_argocd_delivers(variant: str) -> None:
    assert {item["kind"] for item in applications(variant)} == {"Application"}
    assert "Application" not in {item["kind"] for item in objects(variant)}


def test_every_component_of_the_environment_has_its_application(env: str) -> None:
    wanted = ALWAYS | ({"datasource"} if env == "kind" else set())
    assert {item["metadata"]["name"] for item in applications(env)} == wanted


def test_application_has_what_argocd_needs(variant: str) -> None:
    for item in applications(variant):
        where, spec = f"Application {item['metadata']['name']}", item["spec"]
        assert set(spec) == {"project", "source", "destination", "syncPolicy", "revisionHistoryLimit"}, where
        assert spec["project"] == "house-platform", f"{where}: spec.project"
        assert spec["destination"] == {"server": "https://kubernetes.default.svc", "namespace": "mlops"}, where
        assert set(spec["source"]) == {"repoURL", "targetRevision", "path", "helm"}, f"{where}: spec.source"
        assert spec["source"]["repoURL"] == REPOSITORY, f"{where}: spec.source.repoURL"
        assert spec["source"]["targetRevision"] == "0123abc", f"{where}: follows another commit than the root"
        assert spec["source"]["path"] == f"charts/{item['metadata']['name']}", f"{where}: spec.source.path"
        assert set(spec["source"]["helm"]) == {"releaseName", "valuesObject"}, f"{where}: spec.source.helm"
        assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}, (
            f"{where}: spec.syncPolicy.automated"
        )
        assert spec["syncPolicy"]["retry"]["limit"] > 0, (
            f"{where}: a commit that cannot be synced blocks all later ones"
        )


def test_data_outlives_its_application(variant: str) -> None:
    for item in applications(variant):
        cascades = "resources-finalizer.argocd.argoproj.io" in item["metadata"].get("finalizers", [])
        assert cascades is (item["metadata"]["name"] not in STATEFUL), (
            f"Application {item['metadata']['name']}: finalizers"
        )


def test_no_wave_among_the_applications(variant: str) -> None:
    """A wave keeps the root's sync running until what came before is Healthy, and the commit that mends it waiting."""
    for item in applications(variant):
        assert "annotations" not in item["metadata"], f"Application {item['metadata']['name']}"


def test_no_hook_and_no_wave_on_what_the_components_render(variant: str) -> None:
    """An order that must hold is a deadlock that waits: every component waits for what it needs by itself.

    But for `helm test`, which neither an installation nor Argo CD runs: gitops-engine creates no hook whose types it
    does not know, and of Helm's it knows pre- and post-install, -upgrade and -delete.
    """
    found = {name(item): marks for item in objects(variant) if (marks := _marks(item))}
    assert found == {
        "Job mlops-jobs/pipeline-smoke": {
            "helm.sh/hook": "test",
            "helm.sh/hook-delete-policy": "before-hook-creation",
        }
    }


def _marks(item: Object) -> dict[str, str]:
    annotations: dict[str, str] = item["metadata"].get("annotations", {})
    return {key: text for key, text in annotations.items() if key.startswith(("helm.sh/", "argocd.argoproj.io/"))}


@pytest.mark.parametrize("chart", COMPONENTS)
def test_component_renders_alone(chart: str) -> None:
    """With the images' file and, where pods call the cluster's API, its address; as in the umbrella's defaults."""
    needed = KUBE_API if chart in ("airflow", "monitoring") else ()
    rendered = parse(alone(chart, *needed))
    assert rendered
    shared = canonical(objects("kind")) | canonical(objects("vm"))  # which scales
    for item in rendered:
        assert name(item) in shared or chart == "datasource", f"{name(item)} is not what the umbrella delivers"


@pytest.mark.parametrize("chart", COMPONENTS)
def test_component_left_out_leaves_both_ways(env: str, chart: str) -> None:
    direct = parse(text(env, "--set", f"{chart}.enabled=false"))
    argocd = parse(text(env, "--set", f"{chart}.enabled=false", *ARGO))
    assert f"charts/{chart}" not in {item["spec"]["source"]["path"] for item in argocd}
    whole = canonical(objects(env))
    assert set(canonical(direct)) <= set(whole)
    if chart in {item["metadata"]["name"] for item in applications(env)}:
        assert len(direct) < len(whole), f"{chart}.enabled=false leaves nothing out"
