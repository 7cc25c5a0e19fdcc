"""Argo CD and `helm install` deliver the same objects, and each component stands alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.charts.applications import ARGO, REPOSITORY, applications, canonical, through_argocd
from tests.kit.rendering import BEHIND_LOGIN, COMPONENTS, KUBE_API, Object, alone, name, objects, parse, text

# Components whose data must outlive their Application.
STATEFUL = {"postgres", "minio"}
ALWAYS = set(COMPONENTS) - {"datasource"}


def test_both_ways_render_the_same_objects(variant: str, tmp_path: Path) -> None:
    direct = canonical(objects(variant))
    rendered = [item for application in applications(variant) for item in through_argocd(application, tmp_path)]
    argocd = canonical(rendered)
    assert len(argocd) == len(rendered), "two Applications deliver the same object"
    assert set(argocd) == set(direct), f"only in one of both: {sorted(set(argocd) ^ set(direct))}"
    for item, wanted in direct.items():
        assert argocd[item] == wanted, f"{item} differs between `helm install` and Argo CD"


def test_umbrella_renders_applications_only_for_argocd(variant: str) -> None:
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
        assert spec["source"]["targetRevision"] == "0123abc", f"{where}: uses another commit than the root"
        assert spec["source"]["path"] == f"charts/{item['metadata']['name']}", f"{where}: spec.source.path"
        assert set(spec["source"]["helm"]) == {"releaseName", "valuesObject"}, f"{where}: spec.source.helm"
        assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}, (
            f"{where}: spec.syncPolicy.automated"
        )
        assert spec["syncPolicy"]["retry"]["limit"] > 0, (
            f"{where}: with endless retries a commit that cannot be synced blocks all later ones"
        )


def test_data_outlives_its_application(variant: str) -> None:
    for item in applications(variant):
        cascades = "resources-finalizer.argocd.argoproj.io" in item["metadata"].get("finalizers", [])
        assert cascades is (item["metadata"]["name"] not in STATEFUL), (
            f"Application {item['metadata']['name']}: finalizers"
        )


def test_applications_have_no_sync_wave(variant: str) -> None:
    """With waves, the root's sync runs until the previous wave is Healthy, and the commit that fixes it waits."""
    for item in applications(variant):
        assert "annotations" not in item["metadata"], f"Application {item['metadata']['name']}"


def test_components_render_no_hook_and_no_sync_wave(variant: str) -> None:
    """A required order can deadlock, so every component waits by itself for the components that it needs.

    The exception is `helm test`, which neither an installation nor Argo CD runs: gitops-engine creates only hooks of
    types that it knows, and of Helm's types it knows pre- and post-install, -upgrade and -delete.
    """
    hooks = {name(item): marks for item in objects(variant) if (marks := _marks(item))}
    assert hooks == {
        "Job mlops-jobs/pipeline-smoke": {
            "helm.sh/hook": "test",
            "helm.sh/hook-delete-policy": "before-hook-creation",
        }
    }


def _marks(item: Object) -> dict[str, str]:
    annotations: dict[str, str] = item["metadata"].get("annotations", {})
    kept = {"helm.sh/resource-policy": "keep", "argocd.argoproj.io/sync-options": "Prune=false,Delete=false"}
    order = {key: text for key, text in annotations.items() if kept.get(key) != text}  # a kept volume has no order
    return {key: text for key, text in order.items() if key.startswith(("helm.sh/", "argocd.argoproj.io/"))}


@pytest.mark.parametrize("chart", COMPONENTS)
def test_component_renders_alone(chart: str) -> None:
    """It needs the images file and, if its pods call the Kubernetes API, the address of the API server."""
    needed = KUBE_API if chart in ("airflow", "monitoring") else ()
    rendered = parse(alone(chart, *needed))
    assert rendered
    shared = canonical(objects("kind")) | canonical(objects("vm"))  # which has a HorizontalPodAutoscaler
    for item in rendered:
        assert name(item) in shared or chart == "datasource", f"{name(item)} differs from the object of the umbrella"


@pytest.mark.parametrize("chart", COMPONENTS)
def test_component_with_enabled_false_is_left_out_of_both_ways(env: str, chart: str) -> None:
    left_out = [f"{chart}.enabled=false"]
    if chart == "oauth2-proxy":  # Ingresses that lead to it would be refused
        left_out += [f"{page}.enabled=false" for page in BEHIND_LOGIN]
    direct = parse(text(env, "--set", ",".join(left_out)))
    argocd = parse(text(env, "--set", ",".join(left_out), *ARGO))
    assert f"charts/{chart}" not in {item["spec"]["source"]["path"] for item in argocd}
    whole = canonical(objects(env))
    assert set(canonical(direct)) <= set(whole)
    if chart in {item["metadata"]["name"] for item in applications(env)}:
        assert len(direct) < len(whole), f"{chart}.enabled=false leaves out nothing"
