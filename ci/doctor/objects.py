"""Checks that no object of the installed platform is missing or differs, and that no Job must run again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ci.common.kube import PLATFORM, Object
from ci.deploy.drift import Difference
from ci.deploy.jobs import Outlived
from ci.doctor.result import Result, fail, ok, skip


def by_helm(differing: Sequence[Difference], count: int) -> Result:
    """Check the objects of Helm's release. `count`: number of its objects."""
    if not count:
        return skip("objects", "neither Helm nor Argo CD has a record of the platform's objects")
    if differing:
        return fail("objects", _names(differing), "make install, or ./install.sh")
    return ok("objects", f"all {count} objects of Helm's release are as they were installed")


def by_argocd(applications: Iterable[Object]) -> Result:
    """Check the objects of Argo CD's Applications, by Argo CD's own comparison with Git."""
    resources = [item for one in applications for item in one.get("status", {}).get("resources", [])]
    differing = [
        Difference(
            item["kind"],
            item.get("namespace", ""),
            item["name"],
            missing=item.get("health", {}).get("status") == "Missing",
        )
        for item in resources
        if item.get("status") == "OutOfSync"
    ]
    if differing:
        fix = "Argo CD restores it by itself within minutes; if it does not, see the lines of its applications above"
        return fail("objects", _names(differing), fix)
    return ok("objects", f"Argo CD reports all {len(resources)} objects as synced with Git")


def jobs(outlived: Sequence[Outlived]) -> Result:
    """Check that no Job ended before the volume that it fills was created."""
    if outlived:
        names = " ".join(one.name for one in outlived)
        fix = (
            f"make install (bundle, Argo CD: kubectl -n {PLATFORM} delete job {names}; for a bundle, then ./install.sh)"
        )
        return fail("jobs", "; ".join(map(str, outlived)), fix)
    return ok("jobs", "each volume is older than the Job that filled it")


def _names(differing: Iterable[Difference]) -> str:
    return "; ".join(sorted(map(str, differing)))
