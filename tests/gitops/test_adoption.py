"""A running platform moves from Helm to Argo CD and back: data and pods stay unchanged."""

from __future__ import annotations

import json

import pytest

from ci.argocd import actions as argocd
from ci.argocd import handover, sync
from ci.common.console import Failure, say
from ci.common.kube import PLATFORM, kube
from ci.deploy import helm_release, platform
from tests.kit.clients import Clients
from tests.kit.platform_data import counts

from .delivery import ENV, running, volumes

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("installed_by_helm")]


def owners(kind: str, name: str) -> tuple[set[str], set[str]]:
    """Managers of an object's fields, and the annotations of Helm and Argo CD on it."""
    words = ["-n", PLATFORM, "get", kind, name, "--show-managed-fields", "-o", "json"]
    metadata = json.loads(kube(*words))["metadata"]
    marks = {key for key in metadata.get("annotations", {}) if key.startswith(("meta.helm.sh/", "argocd.argoproj.io/"))}
    return {entry["manager"] for entry in metadata["managedFields"]}, marks


@pytest.mark.long
def test_the_platform_moves_from_helm_to_argocd_and_back() -> None:
    """Twice: the second round shows problems that the first round left behind."""
    before = (running(), volumes(), counts())
    say(f"before: {before[2]}")
    with Clients() as clients:
        for turn in ("first", "second"):
            argocd.up(ENV, 300, train=False, settings=[])
            assert helm_release.release() is None, "Helm still has a release"
            managers, marks = owners("configmap", "fastapi")
            assert "argocd-controller" in managers
            assert "helm" not in managers
            assert marks == {"argocd.argoproj.io/tracking-id"}
            # otherwise a field that is removed from Git would stay in the cluster, because Helm owns it
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
    say(f"unchanged; clients: {clients}")
    assert clients.failures == []
