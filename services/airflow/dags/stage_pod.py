"""An operator that runs a stage of the pipeline in one restricted pod.

The result of a stage is JSON in the termination message of its pod (the kubelet keeps at most 4,096 bytes). It becomes
the XCom `result` of the task. So no sidecar and no exec are needed, and no rights except to read the pod.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.container import get_container_status
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from airflow.sdk.bases.skipmixin import SkipMixin
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from kubernetes.client import models as k8s

from pipeline import STAGES, Stage

if TYPE_CHECKING:
    from airflow.sdk import Context

RESULT = "result"  # XCom key; `python -m ci.deploy.runs` reads it
SKIPPED = 99  # exit code of a stage that has nothing to do
STARTUP_SECONDS = 600  # includes the pull of the image on a new node
DEADLINE_SECONDS = 3600  # after this, the kubelet ends the pod
LOST_SECONDS = 60  # after the deletion time of a pod that is still there

# The user that started the DAG run. A run of the schedule has no user.
ACTOR = "Airflow{{ ' user ' ~ dag_run.triggering_user_name if dag_run.triggering_user_name else ', without a user' }}"

PRODUCERS = {reference: stage.name for stage in reversed(STAGES) for reference in stage.gives}


class StageFailed(AirflowException):
    """A stage failed. The message is the error of the stage, or the state of its pod."""


class PodLost(AirflowException):
    """The pod was deleted, but its node does not confirm that it ended. The node is lost."""


class StagePodManager(PodManager):
    """Detects a lost node. Kubernetes deletes its pods after 300 s, but they stay `Running` until it is back."""

    def read_pod(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        """Read the pod from the API server.

        Raises:
            PodLost: the pod is still there a minute after its deletion time.
        """
        current = super().read_pod(pod)
        gone_by = current.metadata.deletion_timestamp
        if gone_by and datetime.now(UTC) - gone_by > timedelta(seconds=LOST_SECONDS):
            node = current.spec.node_name or "unknown"
            raise PodLost(f"it was deleted, and its node {node} does not confirm its end. Check that node")
        return current


@dataclass(frozen=True)
class PodSettings:
    """Settings of the chart for the pods of stages, from the environment of the Airflow containers."""

    image: str
    namespace: str
    config_map: str
    secret: str
    commit: str = "unknown"  # of the image
    placement: dict[str, Any] = field(
        default_factory=dict
    )  # nodeSelector, tolerations, affinity, in the JSON of Kubernetes

    @classmethod
    def from_environment(cls) -> PodSettings:
        """Read PIPELINE_IMAGE, _NAMESPACE, _ENV_CONFIGMAP, _ENV_SECRET, _COMMIT and _PLACEMENT.

        Raises:
            AirflowException: one of the first four is missing. Airflow shows the message as an import error of the DAG.
        """
        names = ("PIPELINE_IMAGE", "PIPELINE_NAMESPACE", "PIPELINE_ENV_CONFIGMAP", "PIPELINE_ENV_SECRET")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise AirflowException(
                f"{', '.join(missing)} not set in the Airflow containers: "
                "charts/airflow renders them from the values under airflow.pipeline"
            )
        commit = os.environ.get("PIPELINE_COMMIT") or "unknown"
        placement = json.loads(os.environ.get("PIPELINE_PLACEMENT") or "{}")
        image, namespace, config_map, secret = (os.environ[name] for name in names)
        return cls(image, namespace, config_map, secret, commit, placement)

    @property
    def code_version(self) -> str:
        """Tag of the image, which is the version of its code."""
        name = self.image.partition("@")[0].rpartition("/")[2]
        return name.partition(":")[2] or "untagged"

    @property
    def digest(self) -> str:
        """Digest of the image; empty if it is identified by its tag only."""
        return self.image.partition("@")[2]

    @property
    def annotations(self) -> dict[str, str]:
        """Commit and digest of the image, as on every pod of the platform (`lib.origin` in the charts)."""
        digest = {"house-platform/image-digest": self.digest} if self.digest else {}
        return {"house-platform/commit": self.commit, **digest}


class StagePod(KubernetesPodOperator, SkipMixin):
    """Runs `python -m pipeline <stage>` in its own pod, and pushes its result as XCom `result`.

    The task succeeds, is skipped with the reason of the stage (exit code 99), or fails with the error of the stage. If
    several stages may follow, it skips those that the result does not name as `next`. A task that was interrupted finds
    its pod again on the next try. If the node is lost, the task fails, and the next try creates a new pod.
    """

    def __init__(self, *, stage: Stage, arguments: list[str] | None = None, **kwargs: Any) -> None:
        settings = PodSettings.from_environment()
        super().__init__(
            task_id=stage.name,
            doc_md=stage.doc,
            # program
            name=f"pipeline-{stage.name}",
            image=settings.image,
            image_pull_policy="IfNotPresent",
            arguments=[stage.name, *(references(stage) if arguments is None else arguments)],
            env_vars=[
                k8s.V1EnvVar(name="CODE_VERSION", value=settings.code_version),
                k8s.V1EnvVar(name="COMMIT", value=settings.commit),
                k8s.V1EnvVar(name="IMAGE_DIGEST", value=settings.digest),
                k8s.V1EnvVar(name="RUN_ID", value="{{ run_id }}"),
                k8s.V1EnvVar(name="ACTOR", value=ACTOR),
            ],
            env_from=[
                k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name=settings.config_map)),
                k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=settings.secret)),
            ],
            # place and rights: only access to the servers that its labels name
            namespace=settings.namespace,
            in_cluster=True,
            kubernetes_conn_id=None,
            labels=pod_labels(stage),
            annotations=settings.annotations,
            service_account_name="pipeline",
            automount_service_account_token=False,
            security_context=POD_SECURITY,
            container_security_context=CONTAINER_SECURITY,
            volumes=[k8s.V1Volume(name="tmp", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="2Gi"))],
            volume_mounts=[k8s.V1VolumeMount(name="tmp", mount_path="/tmp")],  # noqa: S108 - a volume of the pod
            container_resources=k8s.V1ResourceRequirements(
                requests={"cpu": "250m", "memory": stage.memory}, limits={"cpu": "2", "memory": stage.memory}
            ),
            node_selector=settings.placement.get("nodeSelector"),
            tolerations=settings.placement.get("tolerations"),
            affinity=settings.placement.get("affinity"),
            # time limits
            startup_timeout_seconds=STARTUP_SECONDS,
            startup_check_interval_seconds=1,
            active_deadline_seconds=DEADLINE_SECONDS,
            # a lost node cannot end the pod at its deadline
            execution_timeout=timedelta(seconds=STARTUP_SECONDS + DEADLINE_SECONDS + 600),
            termination_grace_period=5,
            on_finish_action="delete_pod",
            # result and log
            skip_on_exit_code=SKIPPED,
            termination_message_policy="FallbackToLogsOnError",
            log_events_on_failure=True,
            log_pod_spec_on_failure=False,
            container_name_log_prefix_enabled=False,
            **kwargs,
        )
        self.stage = stage

    @cached_property
    def pod_manager(self) -> PodManager:
        """Reads the pod and its log; detects lost nodes."""
        return StagePodManager(kube_client=self.client, callbacks=self.callbacks)

    def execute(self, context: Context) -> None:
        """Run the pod, push its result, and succeed, skip or fail as the stage did.

        Raises:
            AirflowSkipException: the stage has nothing to do. The message is its reason.
            StageFailed: the stage failed, or its pod did not run to the end.
        """
        try:
            super().execute(context)
        except AirflowSkipException:
            result = self._push(context)
            raise AirflowSkipException(str(result.get("summary", "the stage gave no reason"))) from None
        except AirflowException as failure:
            result = self._push(context)
            raise StageFailed(str(result.get("error") or self._describe_failure(failure))) from None
        result = self._push(context)
        missing = [name for name in self.stage.gives if name not in result]
        if missing:
            raise StageFailed(
                f"stage {self.stage.name} succeeded but reported no {' and no '.join(missing)}: "
                f"its result is {self._message()[:200]!r} (a JSON object of at most 4096 bytes is expected)"
            )
        self.log.info("%s", result.get("summary", "the stage gave no summary"))
        if len(self.stage.then) > 1:
            self._branch(context, result)

    def _branch(self, context: Context, result: dict[str, Any]) -> None:
        """Skip the stages that do not follow. Must be the last call, because Airflow ends the task with it."""
        if result.get("next") not in self.stage.then:
            raise StageFailed(
                f"stage {self.stage.name} succeeded but reported no `next` of {', '.join(self.stage.then)}: "
                f"its result is {self._message()[:200]!r}"
            )
        self.skip_all_except(context["ti"], self.stage.then[result["next"]])

    def _push(self, context: Context) -> dict[str, Any]:
        result = read_result(self._message())
        if result:
            context["ti"].xcom_push(key=RESULT, value=result)
        return result

    def _base(self) -> k8s.V1ContainerStatus | None:
        return get_container_status(self.remote_pod, self.base_container_name)

    def _message(self) -> str:
        base = self._base()
        return (base.state.terminated.message or "") if base and base.state.terminated else ""

    def _describe_failure(self, failure: AirflowException) -> str:
        """The reason for the end of a pod without an error of its stage, from the status of the pod."""
        stage = f"stage {self.stage.name}"
        if isinstance(failure.__context__, PodLost):
            return f"the pod of {stage} is lost: {failure.__context__}"
        base, status = self._base(), self.remote_pod.status if self.remote_pod else None
        ended = base.state.terminated if base else None
        if ended and ended.reason == "OOMKilled":
            return f"{stage} needs more than its memory limit of {self.stage.memory}: raise it in pipeline.STAGES"
        if status and status.reason == "DeadlineExceeded":
            return f"{stage} did not end within {self.active_deadline_seconds} s and was stopped"
        if status and status.reason:
            return f"the pod of {stage} ended with {status.reason}: {status.message or 'no message'}"
        if ended and ended.exit_code:
            last = (ended.message or "").strip().splitlines()
            return f"{stage} ended with code {ended.exit_code}" + (f": {last[-1]}" if last else " and no output")
        cause = failure.__context__ if isinstance(failure.__context__, Exception) else failure
        return f"the pod of {stage} could not run: {cause}"


def references(stage: Stage) -> list[str]:
    """The references as arguments. Each is a template that reads the result of the stage that produces it."""
    return [
        word
        for name in stage.needs
        for word in (
            f"--{name.replace('_', '-')}",
            f"{{{{ ti.xcom_pull(task_ids='{PRODUCERS[name]}', key='{RESULT}')['{name}'] }}}}",
        )
    ]


def read_result(message: str) -> dict[str, Any]:
    """The JSON object in a termination message; {} if there is none, or if it is cut off."""
    try:
        result = json.loads(message)
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}


def pod_labels(stage: Stage) -> dict[str, str]:
    """Labels that the NetworkPolicies of the servers admit. Only `fetch` gets access to the data API."""
    servers = ["postgres", "minio", "mlflow", *(["datasource", "data-api"] if stage is STAGES[0] else [])]
    return {
        "app.kubernetes.io/name": "pipeline",
        "app.kubernetes.io/component": stage.name,
        **{f"access/{server}": "true" for server in servers},
    }


# Pod Security "restricted", with a read-only root file system.
POD_SECURITY = k8s.V1PodSecurityContext(
    run_as_non_root=True,
    run_as_user=10001,
    run_as_group=10001,
    fs_group=10001,
    seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
)
CONTAINER_SECURITY = k8s.V1SecurityContext(
    allow_privilege_escalation=False,
    read_only_root_filesystem=True,
    capabilities=k8s.V1Capabilities(drop=["ALL"]),
)
