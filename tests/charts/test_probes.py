"""Every long-running container has probes for start, readiness and liveness."""

from __future__ import annotations

from tests.kit.rendering import Workload


def test_container_has_probes_that_name_its_own_port(workload: Workload) -> None:
    if workload.kind in ("Job", "CronJob", "PodTemplate"):  # their pods terminate by themselves
        return
    for container in workload.pod["containers"]:
        where, ports = f"{workload.name}: {container['name']}", {port["name"] for port in container.get("ports", [])}
        for probe in ("readinessProbe", "livenessProbe"):
            assert probe in container, f"{where}: no {probe}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            call = container.get(probe, {}).get("httpGet")
            assert call is None or call["port"] in ports, (
                f"{where}: {probe} uses port {call['port']}, which is not one of {ports}"
            )


def test_startup_probe_allows_a_slow_start(workload: Workload) -> None:
    """Without a startupProbe, the livenessProbe would have to allow for the slowest start.

    The first start on a node reads the program from a cold disk, while other images are unpacked.
    """
    for container in workload.pod["containers"]:
        if "startupProbe" in container:
            seconds = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
            assert seconds >= 120, f"{workload.name}: {container['name']}: startupProbe gives up after {seconds} s"


def test_liveness_is_more_patient_than_readiness(workload: Workload) -> None:
    """A busy process leaves its Service before Kubernetes kills it."""
    for container in workload.pod["containers"]:
        if "livenessProbe" in container:
            ready, live = container["readinessProbe"], container["livenessProbe"]
            assert live.get("timeoutSeconds", 1) >= ready.get("timeoutSeconds", 1), (
                f"{workload.name}: {container['name']}"
            )
            patience = [p.get("periodSeconds", 10) * p.get("failureThreshold", 3) for p in (ready, live)]
            assert patience[0] <= patience[1], (
                f"{workload.name}: {container['name']}: {patience[0]} s above {patience[1]} s"
            )


def test_jobs_of_a_cronjob_run_one_at_a_time(workload: Workload) -> None:
    """The alert JobFailed ends with a success that ended after the failed Job began; a newer Job must have had it."""
    if workload.kind == "CronJob":
        assert workload.item["spec"]["concurrencyPolicy"] == "Forbid", f"{workload.name}: concurrencyPolicy"


def test_job_has_a_restart_policy_and_a_backoff_limit(workload: Workload) -> None:
    spec = workload.item.get("spec", {})
    job = {"Job": spec, "CronJob": spec.get("jobTemplate", {}).get("spec")}.get(workload.kind)
    if job:
        assert workload.pod["restartPolicy"] in ("OnFailure", "Never"), f"{workload.name}: restartPolicy"
        assert job.get("backoffLimit") is not None, f"{workload.name}: no backoffLimit"
