"""Objects that are missing in the cluster, or differ from it, by the API server's answer to a dry run."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from ci.common.console import Failure
from ci.common.kube import NoCluster
from ci.deploy import drift
from ci.deploy.drift import Difference, differences, differing_fields, read

Object = dict[str, Any]

# A Deployment as the API server returns it: with defaults, and with what controllers wrote.
LIVE: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "streamlit",
        "namespace": "mlops",
        "labels": {"app.kubernetes.io/name": "streamlit"},
        "annotations": {"deployment.kubernetes.io/revision": "4", "meta.helm.sh/release-name": "mlops"},
        "creationTimestamp": "2026-11-01T08:00:00Z",
        "generation": 4,
        "resourceVersion": "5012",
        "uid": "0b0e1a52",
    },
    "spec": {
        "replicas": 1,
        "progressDeadlineSeconds": 600,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "streamlit",
                        "image": "ui:1",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                        "args": ["--port", "8501"],
                        "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "500m"}},
                        "terminationMessagePath": "/dev/termination-log",
                    }
                ],
                "restartPolicy": "Always",
            }
        },
    },
    "status": {"readyReplicas": 1},
}


def changed(path: str, value: object, item: Object = LIVE) -> Object:
    """A copy of an object with another value at a path. Numbers in the path are places in lists."""
    result = copy.deepcopy(item)
    *folders, last = path.split("/")
    place: Any = result
    for name in folders:
        place = place[int(name)] if name.isdigit() else place[name]
    place[int(last) if last.isdigit() else last] = value
    return result


CONTAINER = "spec/template/spec/containers/0"
NAMED = "spec.template.spec.containers[streamlit]"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec/replicas", 2, "spec.replicas"),
        ("metadata/labels", {"app.kubernetes.io/name": "x"}, "metadata.labels[app.kubernetes.io/name]"),
        (f"{CONTAINER}/resources/limits/memory", "1Gi", f"{NAMED}.resources.limits.memory"),
        (f"{CONTAINER}/resources/limits", {}, f"{NAMED}.resources.limits.memory"),
        (f"{CONTAINER}/env/1/value", "3", f"{NAMED}.env[B].value"),
        (f"{CONTAINER}/args/1", "80", f"{NAMED}.args[1]"),
        (f"{CONTAINER}/args", ["--port"], f"{NAMED}.args"),
        (f"{CONTAINER}/name", "other", "spec.template.spec.containers[other]"),
        ("spec/template/spec/containers", [], "spec.template.spec.containers"),
        ("spec/template/spec/hostNetwork", True, "spec.template.spec.hostNetwork"),
    ],
)
def test_a_differing_field_is_named_by_its_path(path: str, value: object, field: str) -> None:
    assert field in differing_fields(changed(path, value), LIVE)
    assert field in differing_fields(LIVE, changed(path, value))


def test_the_path_of_one_changed_field_is_the_only_one() -> None:
    assert differing_fields(changed("spec/replicas", 2), LIVE) == ["spec.replicas"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status", {"readyReplicas": 0}),
        ("metadata/resourceVersion", "5013"),
        ("metadata/generation", 5),
        ("metadata/managedFields", [{"manager": "make-install"}]),
        ("metadata/creationTimestamp", None),
        (f"{CONTAINER}/env", [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]),  # other order
    ],
)
def test_what_the_server_writes_is_no_difference(path: str, value: object) -> None:
    assert differing_fields(LIVE, changed(path, value)) == []


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (Difference("NetworkPolicy", "mlops", "postgres", missing=True), "NetworkPolicy/postgres is missing"),
        (Difference("Role", "mlops-jobs", "airflow", missing=True), "Role/mlops-jobs/airflow is missing"),
        (Difference("ClusterRole", "", "prometheus", fields=("rules",)), "ClusterRole/prometheus differs in rules"),
        (Difference("Service", "mlops", "minio", fields=("a", "b")), "Service/minio differs in a, b"),
        (Difference("Service", "mlops", "minio"), "Service/minio differs"),
        (
            Difference("Job", "mlops", "x", refusal="field is immutable"),
            "Job/x differs, and the API server refuses to change it: field is immutable",
        ),
    ],
)
def test_a_difference_is_one_line(one: Difference, line: str) -> None:
    assert str(one) == line


class Cluster:
    """Stands for kubectl: it finds objects, and answers a dry run with the live object plus the fields of the manifest.

    `served` counts the calls by verb. `refused` maps names of objects to the reason why the API server refuses them.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *live: Object) -> None:
        self.live = list(live)
        self.refused: dict[str, str] = {}
        self.served: list[str] = []
        monkeypatch.setattr(drift, "kube", self.kube)

    def kube(self, verb: str, *words: str, stdin: str) -> str:
        self.served.append(verb)
        if verb == "create":
            assert {"--dry-run=client", "--validate=false"} <= set(words)
            return "\n".join(json.dumps(item, indent=1) for item in yaml.safe_load_all(stdin) if item)
        items = json.loads(stdin)["items"]
        if verb == "get":
            return self._print([one for item in items if (one := self._find(item))])
        assert verb == "apply"
        assert {"--dry-run=server", "--server-side", "--force-conflicts"} <= set(words)
        for item in items:
            if reason := self.refused.get(item["metadata"]["name"]):
                raise Failure(f"`kubectl apply` ended with code 1:\nThe {item['kind']} is invalid: {reason}")
        return self._print([_merged(self._find(item) or {}, item) for item in items])

    def _find(self, item: Object) -> Object | None:
        return next((one for one in self.live if drift._key(one) == drift._key(item)), None)

    @staticmethod
    def _print(items: list[Object]) -> str:
        """A single object is printed alone, several as a list, and none as nothing."""
        if len(items) < 2:
            return json.dumps(items[0]) if items else ""
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _merged(live: Object, wanted: Object) -> Object:
    result = copy.deepcopy(live)
    for name, value in wanted.items():
        result[name] = _merged(result[name], value) if isinstance(result.get(name), dict) else value
    return result


def policy(name: str, port: int = 5432, namespace: str = "mlops") -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ingress": [{"ports": [{"port": port}]}]},
    }


NAMES = ("a", "b", "c", "d", "e")


def test_nothing_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, *map(policy, NAMES))
    assert differences([policy(name) for name in NAMES]) == []
    assert cluster.served == ["get", "apply"]


def test_missing_and_changed_objects_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Cluster(monkeypatch, policy("a"), policy("b", 5433), policy("d", namespace="other"))
    assert differences([policy(name) for name in "dcba"]) == [
        Difference("NetworkPolicy", "mlops", "b", fields=("spec.ingress[0].ports[0].port",)),
        Difference("NetworkPolicy", "mlops", "c", missing=True),
        Difference("NetworkPolicy", "mlops", "d", missing=True),
    ]


def test_missing_objects_are_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their namespace may be missing, too, and the API server would refuse them."""
    cluster = Cluster(monkeypatch)
    assert [one.missing for one in differences([policy(name) for name in NAMES])] == [True] * len(NAMES)
    assert "apply" not in cluster.served


def test_a_field_that_only_the_cluster_has_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    Cluster(monkeypatch, changed("spec/policyTypes", ["Ingress"], policy("a")))
    assert differences([policy("a")]) == []


@pytest.mark.parametrize("refused", NAMES)
def test_a_refused_object_is_reported_with_the_reason_and_the_others_are_compared(
    refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(monkeypatch, *(policy(name, 1) for name in NAMES))
    cluster.refused[refused] = "field is immutable"
    result = differences([policy(name) for name in NAMES])
    assert {one.name: one.refusal for one in result if one.refusal} == {
        refused: "The NetworkPolicy is invalid: field is immutable"
    }
    assert {one.name for one in result if one.fields} == set(NAMES) - {refused}


def test_a_long_refusal_keeps_its_beginning_and_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, policy("a"))
    cluster.refused["a"] = f"Invalid value: {'x' * 5000}: field is immutable"
    [one] = differences([policy("a")])
    assert one.refusal.startswith("The NetworkPolicy is invalid: Invalid value")
    assert one.refusal.endswith("field is immutable")
    assert len(one.refusal) < 400


def test_a_change_by_a_controller_between_the_two_reads_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, policy("a", 1), policy("b", 1))
    answer = cluster.kube

    def kube(verb: str, *words: str, stdin: str) -> str:
        text = answer(verb, *words, stdin=stdin)
        if verb == "get":
            cluster.live[0] = policy("a")
        return text

    monkeypatch.setattr(drift, "kube", kube)
    assert [one.name for one in differences([policy("a"), policy("b")])] == ["b"]


@pytest.mark.parametrize(
    "failure",
    [
        NoCluster("no cluster answers"),
        Failure('Error from server (Forbidden): policies "a" is forbidden: User "x" cannot patch resource "policies"'),
    ],
)
def test_a_failure_that_concerns_every_object_is_not_asked_for_again(
    failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(monkeypatch, *map(policy, NAMES))
    answer = cluster.kube

    def kube(verb: str, *words: str, stdin: str) -> str:
        if verb == "apply":
            cluster.served.append(verb)
            raise failure
        return answer(verb, *words, stdin=stdin)

    monkeypatch.setattr(drift, "kube", kube)
    with pytest.raises(type(failure)):
        differences([policy(name) for name in NAMES])
    assert cluster.served == ["get", "apply"]


@pytest.mark.parametrize("names", [(), ("a",), NAMES])
def test_a_manifest_is_read_by_kubectl(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    Cluster(monkeypatch)
    manifest = "".join(f"---\n# Source: x\n{yaml.safe_dump(policy(name))}" for name in names)
    assert read(manifest) == [policy(name) for name in names]


def test_without_a_release_there_is_no_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_cluster(*_: str) -> str:
        raise Failure("`helm get manifest` ended with code 1:\nError: release: not found")

    monkeypatch.setattr(drift, "helm", lambda: "helm")
    monkeypatch.setattr(drift, "on_cluster", on_cluster)
    assert drift.installed_manifest() == ""


def test_the_program_prints_a_line_per_object_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster(monkeypatch, policy("a"))
    monkeypatch.setattr(drift, "installed_manifest", lambda: yaml.safe_dump_all([policy("a"), policy("b")]))
    monkeypatch.setattr("sys.argv", ["drift"])
    assert drift._main() == 1
    assert capsys.readouterr().out == "NetworkPolicy/b is missing\n"
    cluster.live.append(policy("b"))
    assert drift._main() == 0
