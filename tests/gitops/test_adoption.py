"""A running platform goes from Helm to Argo CD and back: no data moves, and no pod notices."""

from __future__ import annotations

import json

import pytest

from ci import platform
from ci.argocd import __main__ as argocd
from ci.argocd import handover, sync
from ci.console import Failure, say
from ci.kube import PLATFORM, kube

from .clients import Clients
from .data import counts
from .delivery import ENV, running, volumes

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("installed_by_helm")]


def owners(kind: str, name: str) -> tuple[set[str], set[str]]:
    """Managers of an object's fields, and the annotations of Helm and Argo CD on it."""
    words = ["-n", PLATFORM, "get", kind, name, "--show-managed-fields", "-o", "json"]
    metadata = json.loads(kube(*words))["metadata"]
    marks = {key for key in metadata.get("annotations", {}) if key.startswith(("meta.helm.sh/", "argocd.argoproj.io/"))}
    return {entry["manager"] for entry in metadata["managedFields"]}, marks


def test_there_and_back_again() -> None:
    """Twice, as what the first turn leaves behind could only show in the second."""
    before = (running(), volumes(), counts())
    say(f"before: {before[2]}")
    with Clients() as clients:
        for turn in ("first", "second"):
            argocd.up(ENV, 300, train=False, settings=[])
            assert platform.release() is None, "Helm believes that it has a release"
            managers, marks = owners("configmap", "fastapi")
            assert "argocd-controller" in managers
            assert "helm" not in managers
            assert marks == {"argocd.argoproj.io/tracking-id"}
            # else a field that leaves Git would stay in the cluster, held by Helm
            assert handover.disown(handover.managed(), *handover.HELM) == 0, "Helm still owns fields"
            with pytest.raises(Failure, match="Argo CD delivers this platform"):
                platform.install(ENV)
            assert (running(), volumes(), counts()) == before, f"{turn} turn, by Argo CD"

            handover.to_helm(ENV, [])
            assert sync.applications() == {}
            managers, marks = owners("configmap", "fastapi")
            assert "helm" in managers
            assert "argocd-controller" not in managers
            assert marks == {"meta.helm.sh/release-name", "meta.helm.sh/release-namespace"}
            assert platform.install(ENV) is False, "Helm would change something"
            assert (running(), volumes(), counts()) == before, f"{turn} turn, by Helm"
    say(f"after two turns the same; meanwhile {clients}")
    assert clients.failures == []
