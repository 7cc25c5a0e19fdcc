"""A stage of the pipeline as one restricted pod: how it runs, how it reports, how it fails.

The pod's result is the JSON that the stage leaves as its termination message (the kubelet keeps at most 4,096 bytes).
It becomes the task's XCom `result`: no sidecar, no exec, no more rights than reading the pod.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.container import get_container_status
from airflow.sdk.bases.skipmixin import SkipMixin
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from kubernetes.client import models as k8s

from pipeline import STAGES, Stage

if TYPE_CHECKING:
    from airflow.sdk import Context

RESULT = "result"  # XCom key; `python -m ci.runs` and the page's links read it
SKIPPED = 99  # exit code of a stage that has nothing to do

GIVEN_BY = {reference: stage.name for stage in reversed(STAGES) for reference in stage.gives}


class StageFailed(AirflowException):
    """A stage did not do its work; the text is its own sentence, or what the cluster says about its pod."""


@dataclass(frozen=True)
class PodSettings:
    """What the chart decides about a stage's pod; read from the environment of the Airflow containers."""

    image: str
    namespace: str
    config_map: str
    secret: str
    commit: str = "unknown"  # of the image

    @classmethod
    def from_environment(cls) -> PodSettings:
        """Read PIPELINE_IMAGE, PIPELINE_NAMESPACE, PIPELINE_ENV_CONFIGMAP, PIPELINE_ENV_SECRET and PIPELINE_COMMIT.

        Raises:
            AirflowException: one but the commit is missing; the sentence is shown as the DAG's import error.
        """
        names = ("PIPELINE_IMAGE", "PIPELINE_NAMESPACE", "PIPELINE_ENV_CONFIGMAP", "PIPELINE_ENV_SECRET")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise AirflowException(
                f"{', '.join(missing)} not set in the Airflow containers: "
                "charts/airflow renders them from the values under airflow.pipeline"
            )
        return cls(*(os.environ[name] for name in names), os.environ.get("PIPELINE_COMMIT") or "unknown")

    @property
    def code_version(self) -> str:
        """Tag of the image, which is the version of the code in it."""
        name = self.image.partition("@")[0].rpartition("/")[2]
        return name.partition(":")[2] or "untagged"

    @property
    def digest(self) -> str:
        """Digest of the image; "" where only its tag identifies it."""
        return self.image.partition("@")[2]

    @property
    def annotations(self) -> dict[str, str]:
        """What every pod of the platform says of its image (`lib.origin` in the charts)."""
        digest = {"house-platform/image-digest": self.digest} if self.digest else {}
        return {"house-platform/commit": self.commit, **digest}


class StagePod(KubernetesPodOperator, SkipMixin):
    """Runs `python -m pipeline <stage>` in a pod of its own and pushes what it reports as XCom `result`.

    Ends green, skipped with the stage's reason (exit code 99), or red with the stage's sentence. Where several stages
    may follow, it skips those that the result does not name as `next`.
    A task that is interrupted finds its pod again on the next try.
    """

    def __init__(self, *, stage: Stage, arguments: list[str] | None = None, **kwargs: Any) -> None:
        settings = PodSettings.from_environment()
        super().__init__(
            task_id=stage.name,
            doc_md=stage.doc,
            # what runs
            name=f"pipeline-{stage.name}",
            image=settings.image,
            image_pull_policy="IfNotPresent",
            arguments=[stage.name, *(references(stage) if arguments is None else arguments)],
            env_vars=[
                k8s.V1EnvVar(name="CODE_VERSION", value=settings.code_version),
                k8s.V1EnvVar(name="COMMIT", value=settings.commit),
                k8s.V1EnvVar(name="IMAGE_DIGEST", value=settings.digest),
                k8s.V1EnvVar(name="RUN_ID", value="{{ run_id }}"),
            ],
            env_from=[
                k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name=settings.config_map)),
                k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=settings.secret)),
            ],
            # where, and with which rights: none beside the servers that its labels name
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
            volume_mounts=[k8s.V1VolumeMount(name="tmp", mount_path="/tmp")],  # noqa: S108 - the pod's own
            container_resources=k8s.V1ResourceRequirements(
                requests={"cpu": "250m", "memory": stage.memory}, limits={"cpu": "2", "memory": stage.memory}
            ),
            # how long
            startup_timeout_seconds=300,
            startup_check_interval_seconds=1,
            active_deadline_seconds=3600,
            termination_grace_period=5,
            on_finish_action="delete_pod",
            # what is told
            skip_on_exit_code=SKIPPED,
            termination_message_policy="FallbackToLogsOnError",
            log_events_on_failure=True,
            log_pod_spec_on_failure=False,
            container_name_log_prefix_enabled=False,
            **kwargs,
        )
        self.stage = stage

    def execute(self, context: Context) -> None:
        """Run the pod, push its result, and end as the stage ended.

        Raises:
            AirflowSkipException: the stage has nothing to do; the text is its reason.
            StageFailed: the stage failed, or its pod could not run to the end.
        """
        try:
            super().execute(context)
        except AirflowSkipException:
            result = self._push(context)
            raise AirflowSkipException(str(result.get("summary", "the stage gave no reason"))) from None
        except AirflowException as failure:
            result = self._push(context)
            raise StageFailed(str(result.get("error") or self._what_the_cluster_says(failure))) from None
        result = self._push(context)
        lost = [name for name in self.stage.gives if name not in result]
        if lost:
            raise StageFailed(
                f"stage {self.stage.name} ended well but reported no {' and no '.join(lost)}: "
                f"its result is {self._message()[:200]!r} (a JSON object of at most 4096 bytes is expected)"
            )
        self.log.info("%s", result.get("summary", "the stage gave no summary"))
        if len(self.stage.then) > 1:
            self._branch(context, result)

    def _branch(self, context: Context, result: dict[str, Any]) -> None:
        """Skip what does not follow; last, because Airflow ends the task with it."""
        if result.get("next") not in self.stage.then:
            raise StageFailed(
                f"stage {self.stage.name} ended well but said no next of {', '.join(self.stage.then)}: "
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

    def _what_the_cluster_says(self, failure: AirflowException) -> str:
        """Why the pod ended without a sentence of the stage, as far as its status tells."""
        stage = f"stage {self.stage.name}"
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
            return f"{stage} ended with code {ended.exit_code}" + (f": {last[-1]}" if last else " and said nothing")
        cause = failure.__context__ if isinstance(failure.__context__, Exception) else failure
        return f"the pod of {stage} could not run: {cause}"


def references(stage: Stage) -> list[str]:
    """The stage's references as arguments, each a template that reads the result of the stage that gives it."""
    return [
        word
        for name in stage.needs
        for word in (
            f"--{name.replace('_', '-')}",
            f"{{{{ ti.xcom_pull(task_ids='{GIVEN_BY[name]}', key='{RESULT}')['{name}'] }}}}",
        )
    ]


def read_result(message: str) -> dict[str, Any]:
    """The JSON object in a termination message; {} if there is none, or only a part of one."""
    try:
        found = json.loads(message)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def pod_labels(stage: Stage) -> dict[str, str]:
    """Labels by which the NetworkPolicies of the servers let this stage in; the data API only for `fetch`."""
    servers = ["postgres", "minio", "mlflow", *(["datasource", "data-api"] if stage is STAGES[0] else [])]
    return {
        "app.kubernetes.io/name": "pipeline",
        "app.kubernetes.io/component": stage.name,
        **{f"access/{server}": "true" for server in servers},
    }


# Pod Security "restricted", and a read-only root file system besides.
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
