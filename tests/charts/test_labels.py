"""All labels come from lib.labels, and selectors match exactly their own pods."""

from __future__ import annotations

from tests.kit.rendering import Object, Workload, name, objects, workloads

SELECTOR = "app.kubernetes.io/name"
WITHOUT_SELECTOR = ("Job", "CronJob", "PodTemplate")


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """True if a selector matches these labels."""
    return selector.items() <= labels.items()


def test_every_object_has_the_standard_labels(variant: str) -> None:
    for item in objects(variant):
        labels = item["metadata"].get("labels", {})
        assert set(labels) == {SELECTOR, "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by"}, (
            f"{name(item)}: metadata.labels are {sorted(labels)}: take them from lib.labels"
        )
        assert labels["app.kubernetes.io/part-of"] == "house-platform", f"{name(item)}: part-of"


def test_every_object_has_a_namespace(variant: str) -> None:
    for item in objects(variant):
        if not item["kind"].startswith("Cluster"):
            assert item["metadata"].get("namespace") in ("mlops", "mlops-jobs"), f"{name(item)}: metadata.namespace"


def test_selector_has_one_label_and_matches_its_own_pods(workload: Workload) -> None:
    if workload.kind in WITHOUT_SELECTOR:
        assert "selector" not in workload.item.get("spec", {}), (
            f"{workload.name}: Kubernetes generates the selector of a Job"
        )
        return
    selector = workload.item["spec"]["selector"]
    assert set(selector) == {"matchLabels"}, f"{workload.name}: spec.selector may contain only matchLabels"
    assert set(selector["matchLabels"]) == {SELECTOR}, f"{workload.name}: selectors cannot change: {SELECTOR} only"
    assert selects(selector["matchLabels"], workload.labels), f"{workload.name}: does not select its own pods"


def test_no_selector_matches_the_pods_of_another_workload(variant: str) -> None:
    for workload in (w for w in workloads(variant) if w.kind not in WITHOUT_SELECTOR):
        for other in (w for w in workloads(variant) if w.namespace == workload.namespace):
            if other.item is not workload.item:
                overlaps = selects(workload.item["spec"]["selector"]["matchLabels"], other.labels)
                assert not overlaps, f"{workload.name} also selects the pods of {other.name}"


def test_every_service_matches_pods_that_listen(variant: str) -> None:
    for service in (item for item in objects(variant) if item["kind"] == "Service"):
        selected = [w for w in workloads(variant) if selects(service["spec"]["selector"], w.labels)]
        assert len(selected) == 1, f"{name(service)}: its selector matches {len(selected)} workloads, expected one"
        ports = {port["name"]: port["containerPort"] for box in selected[0].containers for port in box.get("ports", [])}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports, f"{name(service)}: no container of {selected[0].name} has {port}"
            assert ports[port["targetPort"]] == port["port"], (
                f"{name(service)}: {port['name']} differs from the port of the pod"
            )


def test_referenced_objects_exist(variant: str) -> None:
    present = {(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects(variant)}
    for item in objects(variant):
        for kind, wanted in _references(item):
            assert (kind, item["metadata"].get("namespace"), wanted) in present, f"{name(item)} names {kind} {wanted}"


def _references(item: Object) -> list[tuple[str, str]]:
    spec = item.get("spec", {})
    if item["kind"] == "Ingress":
        paths = [path for rule in spec["rules"] for path in rule["http"]["paths"]]
        return [("Service", path["backend"]["service"]["name"]) for path in paths]
    if item["kind"] == "HorizontalPodAutoscaler":
        return [(spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])]
    if item["kind"] == "StatefulSet":
        return [("Service", spec["serviceName"])]
    if item["kind"] == "RoleBinding":
        return [(item["roleRef"]["kind"], item["roleRef"]["name"])]
    return []
