"""What holds for every DAG, every task and every pod that a task starts."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jmespath
import kubernetes_validate
import pytest
from kubernetes.client import ApiClient

from .conftest import DAGS

if TYPE_CHECKING:
    from airflow.sdk import DAG

# A DAG file is read every minute by the processor and at the start of every task: it may draw, not work.
ALLOWED_IMPORTS = {
    "__future__", "airflow", "collections", "dataclasses", "datetime", "functools", "json", "kubernetes", "os",
    "pathlib", "pipeline", "re", "stage_pod", "typing",
}  # fmt: skip


def rendered_pods(dags: dict[str, DAG]) -> list[tuple[str, dict[str, Any]]]:
    """(dag.task, pod as it is sent to Kubernetes) of every task."""
    serialize = ApiClient().sanitize_for_serialization
    return [
        (f"{dag.dag_id}.{task.task_id}", serialize(task.build_pod_request_obj(dry_run=True)))
        for dag in dags.values()
        for task in dag.tasks
    ]


def test_every_dag_is_known_here(dags: dict[str, DAG]) -> None:
    assert sorted(dags) == ["house_price_pipeline", "house_price_rollback"]


@pytest.mark.parametrize("file", sorted(DAGS.glob("**/*.py")), ids=lambda file: file.name)
def test_dag_files_import_nothing_that_works_with_data(file: Any) -> None:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    assert found <= ALLOWED_IMPORTS, f"{file.name} imports {sorted(found - ALLOWED_IMPORTS)}"


def test_pipeline_package_costs_no_import() -> None:
    """The Airflow image holds only `pipeline/__init__.py`, without the pipeline's packages."""
    import pipeline

    tree = ast.parse(open(pipeline.__file__).read())  # noqa: SIM115
    found = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert found <= {"__future__", "dataclasses", "typing", "collections"}, sorted(found)


def test_every_dag_runs_once_at_a_time_and_says_what_it_does(dags: dict[str, DAG]) -> None:
    for name, dag in dags.items():
        assert dag.max_active_runs == 1, f"{name}: max_active_runs is {dag.max_active_runs}"
        assert dag.catchup is False, f"{name}: catchup"
        assert dag.dagrun_timeout, f"{name}: no dagrun_timeout"
        assert dag.doc_md, f"{name}: no doc_md"
        assert dag.tags, f"{name}: no tags"
        for task in dag.tasks:
            assert task.retries >= 3, f"{name}.{task.task_id}: an interruption costs a try; retries is {task.retries}"
            assert task.retry_delay.total_seconds() <= 60, f"{name}.{task.task_id}: retry_delay {task.retry_delay}"
            assert task.doc_md, f"{name}.{task.task_id}: no doc_md"
            assert not task.deferrable, f"{name}.{task.task_id}: there is no triggerer"


POD_POLICY: list[tuple[str, Callable[[Any], bool], str]] = [
    ("metadata.namespace", lambda v: v == "mlops-jobs", "stages run in the namespace of the jobs"),
    ("spec.automountServiceAccountToken", lambda v: v is False, "a stage does not talk to Kubernetes"),
    ("spec.serviceAccountName", bool, "its own account, not `default`"),
    ("spec.activeDeadlineSeconds", lambda v: v is not None and v <= 7200, "a hanging stage must end"),
    ("spec.restartPolicy", lambda v: v == "Never", "Airflow counts the tries"),
    ("spec.hostNetwork", lambda v: not v, "Pod Security restricted"),
    ("spec.securityContext.runAsNonRoot", lambda v: v is True, "Pod Security restricted"),
    ("spec.securityContext.seccompProfile.type", lambda v: v == "RuntimeDefault", "Pod Security restricted"),
    ("spec.containers[].securityContext.allowPrivilegeEscalation", lambda v: v == [False], "Pod Security restricted"),
    ("spec.containers[].securityContext.capabilities.drop", lambda v: v == [["ALL"]], "Pod Security restricted"),
    ("spec.containers[].securityContext.readOnlyRootFilesystem", lambda v: v == [True], "nothing written in the image"),
    ("spec.containers[].resources.limits.memory", lambda v: len(v) == 1, "one stage must not starve the node"),
    ("spec.containers[].resources.limits.cpu", lambda v: len(v) == 1, "one stage must not starve the node"),
    ("spec.containers[].resources.requests.memory", lambda v: len(v) == 1, "the scheduler must know its size"),
    ("spec.containers[].resources.requests.cpu", lambda v: len(v) == 1, "the scheduler must know its size"),
    ("spec.volumes[].emptyDir.sizeLimit", lambda v: len(v) == 1, "only /tmp, and bounded"),
    ("spec.containers[].imagePullPolicy", lambda v: v == ["IfNotPresent"], "images are pinned by digest"),
]


def test_every_pod_keeps_the_policy(dags: dict[str, DAG]) -> None:
    broken = [
        f"{name}: {path} is {jmespath.search(path, pod)!r}: {reason}"
        for name, pod in rendered_pods(dags)
        for path, allowed, reason in POD_POLICY
        if not allowed(jmespath.search(path, pod))
    ]
    assert not broken, "\n".join(broken)


def test_every_pod_is_valid_for_kubernetes(dags: dict[str, DAG]) -> None:
    for name, pod in rendered_pods(dags):
        try:
            kubernetes_validate.validate(pod, "1.36", strict=True)
        except kubernetes_validate.ValidationError as wrong:
            raise AssertionError(f"{name}: {wrong.message}") from wrong


def test_no_secret_is_written_into_a_pod(dags: dict[str, DAG]) -> None:
    for name, pod in rendered_pods(dags):
        env = jmespath.search("spec.containers[].env[].name", pod)
        assert set(env) <= {"CODE_VERSION", "COMMIT", "IMAGE_DIGEST", "RUN_ID"}, (
            f"{name}: settings come from the ConfigMap and the Secret: {env}"
        )
