"""A Job that ended before the volume that it fills was created must run again."""

from __future__ import annotations

from typing import Any

import pytest

from ci.deploy.jobs import FILLS, Outlived, compare
from tests.kit import rendering

CLAIM = {"metadata": {"name": "data-minio-0", "creationTimestamp": "2026-11-02T09:59:59Z"}}


def job(claim: str = "data-minio-0", **status: str) -> dict[str, Any]:
    return {"metadata": {"name": "minio-provision-1", "annotations": {FILLS: claim} if claim else {}}, "status": status}


@pytest.mark.parametrize(
    ("item", "again"),
    [
        (job(completionTime="2026-11-01T10:00:00Z"), True),
        (job(completionTime="2026-11-02T10:00:00Z"), False),
        (job(startTime="2026-11-01T10:00:00Z"), False),  # it has not ended
        (job("data-postgres-0", completionTime="2026-11-01T10:00:00Z"), False),  # the claim does not exist yet
        (job("", completionTime="2026-11-01T10:00:00Z"), False),
    ],
)
def test_a_job_runs_again_if_its_volume_is_newer(item: dict[str, Any], again: bool) -> None:
    assert compare([item], [CLAIM]) == ([Outlived("minio-provision-1", "data-minio-0")] if again else [])


def test_the_line_names_the_job_and_the_claim() -> None:
    line = "Job/minio-provision-1 filled an earlier volume than the present one of data-minio-0"
    assert str(Outlived("minio-provision-1", "data-minio-0")) == line


@pytest.mark.parametrize("variant", rendering.VARIANTS)
def test_every_job_names_a_claim_that_a_server_has(variant: str) -> None:
    objects = rendering.objects(variant)
    claims = {
        f"{template['metadata']['name']}-{item['metadata']['name']}-0"
        for item in objects
        if item["kind"] == "StatefulSet"
        for template in item["spec"]["volumeClaimTemplates"]
    }
    jobs = [item["metadata"] for item in objects if item["kind"] == "Job" and not rendering.is_hook(item)]
    assert jobs
    assert {one["name"]: one.get("annotations", {}).get(FILLS) in claims for one in jobs} == {
        one["name"]: True for one in jobs
    }
