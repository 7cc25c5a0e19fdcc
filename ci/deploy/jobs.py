"""Finds finished Jobs that must run again, because the volume that they filled was lost and created anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ci.common.kube import PART_OF, PLATFORM, Object, get, kube

FILLS = "house-platform/fills"  # annotation of a Job: the claim of the volume that it fills


@dataclass(frozen=True)
class Outlived:
    """A Job that ended before the present volume was created."""

    name: str
    claim: str

    def __str__(self) -> str:
        """One line."""
        return f"Job/{self.name} filled an earlier volume than the present one of {self.claim}"


def outlived() -> list[Outlived]:
    """The Jobs of the platform that must run again, by name."""
    jobs = get("-n", PLATFORM, "jobs", "-l", PART_OF)["items"]
    return compare(jobs, get("-n", PLATFORM, "persistentvolumeclaims")["items"])


def compare(jobs: Iterable[Object], claims: Iterable[Object]) -> list[Outlived]:
    """Jobs that ended before the claim in their annotation was created. A Job that has not ended will fill it."""
    created = {claim["metadata"]["name"]: claim["metadata"]["creationTimestamp"] for claim in claims}
    result = []
    for job in jobs:
        claim = job["metadata"].get("annotations", {}).get(FILLS, "")
        ended = job.get("status", {}).get("completionTime", "")
        if ended and ended < created.get(claim, ""):  # both are UTC in the same format
            result.append(Outlived(job["metadata"]["name"], claim))
    return sorted(result, key=lambda one: one.name)


def delete(job: Outlived) -> None:
    """Delete a Job with its pods, so that it can be created again."""
    kube("-n", PLATFORM, "delete", "job", job.name, "--ignore-not-found", "--timeout=60s")
