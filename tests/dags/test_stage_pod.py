"""How a task ends: success, skipped with the reason, or failed with one error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchFailedException
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s

from .conftest import DAGS

sys.path.insert(0, str(DAGS))

Ended = SimpleNamespace
Run = Callable[..., Any]


def ended_pod(
    code: int | None, message: str = "", reason: str = "", pod_reason: str | None = None, pod_message: str | None = None
) -> k8s.V1Pod:
    """An ended pod as Kubernetes reports it. Without `code` its container never ran."""
    state = (
        k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=code, message=message, reason=reason))
        if code is not None
        else k8s.V1ContainerState(waiting=k8s.V1ContainerStateWaiting(reason="ErrImagePull", message="not found"))
    )
    box = k8s.V1ContainerStatus(name="base", image="i", image_id="i", ready=False, restart_count=0, state=state)
    phase = "Pending" if code is None else "Succeeded" if code == 0 else "Failed"
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="pipeline-train-x", namespace="mlops-jobs"),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base")]),
        status=k8s.V1PodStatus(phase=phase, reason=pod_reason, message=pod_message, container_statuses=[box]),
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the code of the operator with a pod that ends in a certain way; returns the outcome."""
    from stage_pod import StagePod

    from pipeline import Stage

    def run_stage(
        pod: k8s.V1Pod,
        launch_error: Exception | None = None,
        gives: tuple[str, ...] = ("run_id",),
        then: Any = MappingProxyType({}),
    ) -> Any:
        task = StagePod(stage=Stage(name="train", doc="d", needs=(), gives=gives, memory="1Gi", then=then))
        manager = MagicMock()
        manager.await_pod_completion.return_value = pod
        manager.read_pod.return_value = pod
        client = MagicMock()
        monkeypatch.setattr(KubernetesPodOperator, "client", client)
        monkeypatch.setattr(StagePod, "pod_manager", manager)
        monkeypatch.setattr(KubernetesPodOperator, "hook", MagicMock(is_in_cluster=True))
        monkeypatch.setattr(KubernetesPodOperator, "find_pod", lambda *_, **__: pod)
        monkeypatch.setattr(KubernetesPodOperator, "get_or_create_pod", lambda *_, **__: pod)

        def start(*_: object, **__: object) -> None:
            if launch_error:
                raise launch_error

        monkeypatch.setattr(KubernetesPodOperator, "await_pod_start", start)
        pushed: dict[str, Any] = {}
        ti = SimpleNamespace(
            dag_id="house_price_pipeline",
            task_id="train",
            try_number=1,
            map_index=-1,
            xcom_push=lambda key, value: pushed.__setitem__(key, value),
        )
        context = {"ti": ti, "run_id": "manual__1", "dag": SimpleNamespace()}
        raised: BaseException | None = None
        try:
            task.execute(context, StagePod__sentinel=ExecutorSafeguard.sentinel_value)
        except AirflowException as error:
            raised = error
        checked = client.patch_namespaced_pod.called
        return Ended(result=pushed.get("result"), raised=raised, deleted=manager.delete_pod.called, checked=checked)

    return run_stage


def test_image_without_digest_and_commit_has_annotation_unknown() -> None:
    """Docker builds such an image, and an older chart sets no commit."""
    from stage_pod import PodSettings

    settings = PodSettings("localhost/house-platform/pipeline:0.1.0-3f2a91bc77de", "jobs", "pipeline", "pipeline")
    assert settings.annotations == {"house-platform/commit": "unknown"}


def test_pod_has_the_placement_of_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    from stage_pod import StagePod

    from pipeline import Stage

    placement = {
        "nodeSelector": {"pool": "training"},
        "tolerations": [{"key": "dedicated", "value": "training", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}}]}},
    }  # fmt: skip
    monkeypatch.setenv("PIPELINE_PLACEMENT", json.dumps(placement))
    task = StagePod(stage=Stage(name="train", doc="d", needs=(), gives=(), memory="1Gi", then={}))
    spec = ApiClient().sanitize_for_serialization(task.build_pod_request_obj(dry_run=True))["spec"]
    assert {key: spec[key] for key in placement} == placement


def deleted_pod(seconds_ago: float | None) -> k8s.V1Pod:
    """A running pod, according to the API server, whose deletion time was some seconds ago."""
    pod = ended_pod(None)
    pod.status.phase = "Running"
    pod.spec.node_name = "worker-2"
    if seconds_ago is not None:
        pod.metadata.deletion_timestamp = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return pod


@pytest.mark.parametrize("seconds_ago", [None, -5, 30])
def test_pod_that_may_still_end_is_awaited(seconds_ago: float | None) -> None:
    from stage_pod import StagePodManager

    pod, client = deleted_pod(seconds_ago), MagicMock()
    client.read_namespaced_pod.return_value = pod
    assert StagePodManager(kube_client=client).read_pod(pod) is pod


def test_pod_of_a_lost_node_ends_the_wait() -> None:
    """Kubernetes reports it as `Running` until the node is back, and the provider would wait until then."""
    from stage_pod import PodLost, StagePodManager

    pod, client = deleted_pod(90), MagicMock()
    client.read_namespaced_pod.return_value = pod
    manager = StagePodManager(kube_client=client)
    with pytest.raises(PodLost, match="its node worker-2 does not confirm its end"):
        manager.await_pod_completion(pod)
    with pytest.raises(PodLost):
        manager.container_is_running(pod, "base")


def test_stage_on_a_lost_node_fails_and_its_pod_is_not_reused(run: Run) -> None:
    from stage_pod import PodLost

    ended = run(deleted_pod(90), PodLost("it was deleted, and its node worker-2 does not confirm its end"))
    assert str(ended.raised).startswith("the pod of stage train is lost: it was deleted, and its node worker-2")
    assert ended.checked, "the next try would find this pod again"


def test_task_ends_after_the_deadline_of_its_pod(dags: Any) -> None:
    """A lost node cannot end the pod at its deadline."""
    for task in (task for dag in dags.values() for task in dag.tasks):
        assert task.execution_timeout.total_seconds() >= task.startup_timeout_seconds + task.active_deadline_seconds


def test_result_is_pushed_and_the_pod_deleted(run: Run) -> None:
    ended = run(ended_pod(0, '{"run_id": "abc", "summary": "trained"}'))
    assert ended.raised is None
    assert ended.result == {"run_id": "abc", "summary": "trained"}
    assert ended.deleted


def test_skip_has_the_reason_of_the_stage(run: Run) -> None:
    ended = run(ended_pod(99, '{"summary": "4055 rows are too few"}', "Error"))
    assert isinstance(ended.raised, AirflowSkipException)
    assert str(ended.raised) == "4055 rows are too few"
    assert ended.result == {"summary": "4055 rows are too few"}
    assert ended.deleted


def test_failure_has_the_error_of_the_stage(run: Run) -> None:
    ended = run(ended_pod(1, '{"error": "the data API is down: try again"}', "Error"))
    assert str(ended.raised) == "the data API is down: try again"
    assert ended.result == {"error": "the data API is down: try again"}
    assert ended.raised.__suppress_context__, "the message of the operator would hide the error"
    assert ended.deleted


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (
            ended_pod(137, "", "OOMKilled"),
            "stage train needs more than its memory limit of 1Gi: raise it in pipeline.STAGES",
        ),
        (
            ended_pod(137, "", "Error", "DeadlineExceeded", "Pod was active on the node longer than the deadline"),
            "stage train did not end within 3600 s and was stopped",
        ),
        (
            ended_pod(137, "", "Error", "Evicted", "The node was low on resource: ephemeral-storage."),
            "the pod of stage train ended with Evicted: The node was low on resource: ephemeral-storage.",
        ),
        (
            ended_pod(1, "Traceback ...\nModuleNotFoundError: No module named 'core'\n", "Error"),
            "stage train ended with code 1: ModuleNotFoundError: No module named 'core'",
        ),
        (ended_pod(139, "", "Error"), "stage train ended with code 139 and no output"),
    ],
    ids=["out of memory", "deadline", "evicted", "crash before the result", "segmentation fault"],
)
def test_failure_without_an_error_has_the_state_of_the_pod(run: Run, pod: k8s.V1Pod, expected: str) -> None:
    ended = run(pod)
    assert str(ended.raised) == expected
    assert ended.result is None


def test_pod_that_cannot_start_has_the_reason(run: Run) -> None:
    ended = run(ended_pod(None), PodLaunchFailedException("Image cannot be pulled, unable to start: ErrImagePull"))
    assert str(ended.raised) == (
        "the pod of stage train could not run: Image cannot be pulled, unable to start: ErrImagePull"
    )


@pytest.mark.parametrize(
    "message",
    ["", "not json", '{"run_id": "abc", "summary": "cut off at 4,096 by', "[1, 2]", '{"summary": "no reference"}'],
    ids=["empty", "text", "too long", "not an object", "reference missing"],
)
def test_success_without_references_fails(run: Run, message: str) -> None:
    ended = run(ended_pod(0, message))
    assert str(ended.raised).startswith("stage train succeeded but reported no run_id: its result is ")
    assert "at most 4096 bytes" in str(ended.raised)


def test_stage_without_references_may_have_an_empty_result(run: Run) -> None:
    assert run(ended_pod(0, ""), gives=()).raised is None


@pytest.mark.parametrize("message", ["", '{"next": "elsewhere"}', '{"next": ""}'])
def test_stage_that_names_no_successor_fails(run: Run, message: str) -> None:
    ended = run(ended_pod(0, message), gives=(), then={"train": "train", "skip": "report"})
    assert str(ended.raised).startswith("stage train succeeded but reported no `next` of train, skip")
