"""The pods of the doctor and of the tests are admitted by Pod Security `restricted`, whatever else they need."""

from __future__ import annotations

from ci.common import restricted_pod


def test_a_container_cannot_loosen_its_security() -> None:
    loose = {"name": "main", "securityContext": {"privileged": True}}
    [container] = restricted_pod.spec(loose)["containers"]
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == security


def test_the_pod_runs_as_a_user_without_rights() -> None:
    spec = restricted_pod.spec({"name": "main"}, user=10001)
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["securityContext"] == security
    assert spec["automountServiceAccountToken"] is False


def test_a_pod_may_need_more() -> None:
    resources = {"limits": {"memory": "1Gi"}}
    spec = restricted_pod.spec({"name": "main", "resources": resources}, terminationGracePeriodSeconds=0)
    assert spec["terminationGracePeriodSeconds"] == 0
    assert spec["containers"][0]["resources"] == resources
    assert restricted_pod.spec({"name": "main"})["containers"][0]["resources"] == restricted_pod.SMALL
