"""Every long-running container says when it has started, when it may be asked, and when it hangs."""

from __future__ import annotations

from tests.charts.rendering import Workload


def test_container_has_probes_that_name_its_own_port(workload: Workload) -> None:
    if workload.kind in ("Job", "CronJob", "PodTemplate"):  # their pods end by themselves
        return
    for container in workload.pod["containers"]:
        where, ports = f"{workload.name}: {container['name']}", {port["name"] for port in container.get("ports", [])}
        for probe in ("readinessProbe", "livenessProbe"):
            assert probe in container, f"{where}: no {probe}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            call = container.get(probe, {}).get("httpGet")
            assert call is None or call["port"] in ports, (
                f"{where}: {probe} asks port {call['port']}, not one of {ports}"
            )


def test_start_may_take_longer_than_a_hang(workload: Workload) -> None:
    """Without a startupProbe, the livenessProbe would have to be as patient as the slowest start."""
    for container in workload.pod["containers"]:
        if "startupProbe" in container:
            seconds = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
            assert seconds >= 60, f"{workload.name}: {container['name']}: startupProbe gives up after {seconds} s"


def test_liveness_waits_longer_for_an_answer_than_readiness(workload: Workload) -> None:
    """A busy process is taken out of its Service before it is killed."""
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


def test_job_ends_by_itself(workload: Workload) -> None:
    spec = workload.item.get("spec", {})
    job = {"Job": spec, "CronJob": spec.get("jobTemplate", {}).get("spec")}.get(workload.kind)
    if job:
        assert workload.pod["restartPolicy"] in ("OnFailure", "Never"), f"{workload.name}: restartPolicy"
        assert job.get("backoffLimit") is not None, f"{workload.name}: no backoffLimit"
