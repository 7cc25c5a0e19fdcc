"""Cluster policy for all tasks. Airflow checks it when it reads a DAG file.

Tasks run as processes in the pod of the scheduler, which may create pods and has the password of Airflow's database. So
work with data needs its own pod. A DAG that breaks the policy becomes an import error with one of the messages below.
Airflow finds this module on PYTHONPATH.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.exceptions import AirflowClusterPolicyViolation

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def task_policy(task: BaseOperator) -> None:
    """Accept only pods with limits and a deadline.

    Raises:
        AirflowClusterPolicyViolation: the task is not a pod, or its pod has no limits or no deadline.
    """
    from airflow.providers.cncf.kubernetes.operators.pod import (
        KubernetesPodOperator,  # needs 60 MB, so it is imported only by processes that read DAGs
    )

    name = f"{task.dag_id}.{task.task_id}"
    if not isinstance(task, KubernetesPodOperator):
        raise AirflowClusterPolicyViolation(
            f"{name} is a {type(task).__name__}, which would run inside the scheduler. Use StagePod."
        )
    limits = getattr(task.container_resources, "limits", None) or {}
    missing = [kind for kind in ("memory", "cpu") if not limits.get(kind)]
    if missing:
        raise AirflowClusterPolicyViolation(f"{name} has no limit of {' and '.join(missing)}. Set container_resources.")
    if not task.active_deadline_seconds:
        raise AirflowClusterPolicyViolation(f"{name} has no deadline. Set active_deadline_seconds.")
