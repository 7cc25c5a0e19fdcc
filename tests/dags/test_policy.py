"""Policies for every DAG, every task and every pod of a task."""

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

# The DAG processor reads a DAG file every minute, and every task reads it at its start, so its imports must be cheap.
ALLOWED_IMPORTS = {
    "__future__", "airflow", "collections", "dataclasses", "datetime", "functools", "json", "kubernetes", "os",
    "pathlib", "pipeline", "re", "stage_pod", "typing",
}  # fmt: skip


def rendered_pods(dags: dict[str, DAG]) -> list[tuple[str, dict[str, Any]]]:
    """For every task, `dag.task` and its pod as sent to Kubernetes."""
    serialize = ApiClient().sanitize_for_serialization
    return [
        (f"{dag.dag_id}.{task.task_id}", serialize(task.build_pod_request_obj(dry_run=True)))
        for dag in dags.values()
        for task in dag.tasks
    ]


def test_inventory_of_dags(dags: dict[str, DAG]) -> None:
    assert sorted(dags) == ["house_price_pipeline", "house_price_rollback"]


@pytest.mark.parametrize("file", sorted(DAGS.glob("**/*.py")), ids=lambda file: file.name)
def test_dag_files_import_no_data_libraries(file: Any) -> None:
    imports = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imports |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports.add(node.module.partition(".")[0])
    assert imports <= ALLOWED_IMPORTS, f"{file.name} imports {sorted(imports - ALLOWED_IMPORTS)}"


def test_pipeline_package_imports_only_the_standard_library() -> None:
    """The Airflow image has only `pipeline/__init__.py`, without the dependencies of the pipeline."""
    import pipeline

    tree = ast.parse(open(pipeline.__file__).read())  # noqa: SIM115
    imports = {
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
    assert imports <= {"__future__", "dataclasses", "typing", "collections"}, sorted(imports)


def test_every_dag_runs_once_at_a_time_and_is_documented(dags: dict[str, DAG]) -> None:
    for name, dag in dags.items():
        assert dag.max_active_runs == 1, f"{name}: max_active_runs is {dag.max_active_runs}"
        assert dag.catchup is False, f"{name}: catchup"
        assert dag.dagrun_timeout, f"{name}: no dagrun_timeout"
        assert dag.doc_md, f"{name}: no doc_md"
        assert dag.tags, f"{name}: no tags"
        for task in dag.tasks:
            assert task.retries >= 3, (
                f"{name}.{task.task_id}: an interruption uses up a try, but retries is {task.retries}"
            )
            assert task.retry_delay.total_seconds() <= 60, f"{name}.{task.task_id}: retry_delay {task.retry_delay}"
            assert task.doc_md, f"{name}.{task.task_id}: no doc_md"
            assert not task.deferrable, f"{name}.{task.task_id}: there is no triggerer"


POD_POLICY: list[tuple[str, Callable[[Any], bool], str]] = [
    ("metadata.namespace", lambda v: v == "mlops-jobs", "stages run in the namespace mlops-jobs"),
    ("spec.automountServiceAccountToken", lambda v: v is False, "a stage does not talk to Kubernetes"),
    ("spec.serviceAccountName", bool, "a stage has its own account, not `default`"),
    ("spec.activeDeadlineSeconds", lambda v: v is not None and v <= 7200, "a hanging stage must end"),
    ("spec.restartPolicy", lambda v: v == "Never", "Airflow counts the tries"),
    ("spec.hostNetwork", lambda v: not v, "Pod Security restricted"),
    ("spec.securityContext.runAsNonRoot", lambda v: v is True, "Pod Security restricted"),
    ("spec.securityContext.seccompProfile.type", lambda v: v == "RuntimeDefault", "Pod Security restricted"),
    ("spec.containers[].securityContext.allowPrivilegeEscalation", lambda v: v == [False], "Pod Security restricted"),
    ("spec.containers[].securityContext.capabilities.drop", lambda v: v == [["ALL"]], "Pod Security restricted"),
    (
        "spec.containers[].securityContext.readOnlyRootFilesystem",
        lambda v: v == [True],
        "a stage must not write into the image",
    ),
    ("spec.containers[].resources.limits.memory", lambda v: len(v) == 1, "one stage must not starve the node"),
    ("spec.containers[].resources.limits.cpu", lambda v: len(v) == 1, "one stage must not starve the node"),
    (
        "spec.containers[].resources.requests.memory",
        lambda v: len(v) == 1,
        "the scheduler must know the size of the pod",
    ),
    ("spec.containers[].resources.requests.cpu", lambda v: len(v) == 1, "the scheduler must know the size of the pod"),
    ("spec.volumes[].emptyDir.sizeLimit", lambda v: len(v) == 1, "the only volume is /tmp, and it has a limit"),
    ("spec.containers[].imagePullPolicy", lambda v: v == ["IfNotPresent"], "images are pinned by digest"),
]


def test_every_pod_follows_the_policy(dags: dict[str, DAG]) -> None:
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
        except kubernetes_validate.ValidationError as error:
            raise AssertionError(f"{name}: {error.message}") from error


def test_no_pod_spec_contains_a_secret(dags: dict[str, DAG]) -> None:
    for name, pod in rendered_pods(dags):
        env = jmespath.search("spec.containers[].env[].name", pod)
        assert set(env) <= {"CODE_VERSION", "COMMIT", "IMAGE_DIGEST", "RUN_ID", "ACTOR"}, (
            f"{name}: settings come from the ConfigMap and the Secret: {env}"
        )
