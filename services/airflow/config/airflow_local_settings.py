"""Cluster policy: what a task of any DAG must be, checked when Airflow reads its file.

Tasks run as processes of the scheduler's pod, which may create pods and holds the key to Airflow's database: work with
data belongs into a pod of its own. A DAG that breaks this is an import error with one of the sentences below.
Airflow finds this module on PYTHONPATH.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.exceptions import AirflowClusterPolicyViolation

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def task_policy(task: BaseOperator) -> None:
    """Let only bounded pods pass.

    Raises:
        AirflowClusterPolicyViolation: the task is no pod, or a pod without limits.
    """
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator  # 60 MB: only where DAGs are read

    name = f"{task.dag_id}.{task.task_id}"
    if not isinstance(task, KubernetesPodOperator):
        raise AirflowClusterPolicyViolation(
            f"{name} is a {type(task).__name__}, which would run inside the scheduler: use StagePod"
        )
    limits = getattr(task.container_resources, "limits", None) or {}
    lacking = [kind for kind in ("memory", "cpu") if not limits.get(kind)]
    if lacking:
        raise AirflowClusterPolicyViolation(f"{name} has no limit of {' and '.join(lacking)}: set container_resources")
    if not task.active_deadline_seconds:
        raise AirflowClusterPolicyViolation(f"{name} may run for ever: set active_deadline_seconds")
