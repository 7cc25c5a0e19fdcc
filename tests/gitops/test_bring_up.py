"""Argo CD brings up the platform on an empty cluster, in any order of the Applications."""

from __future__ import annotations

import random
import time

import pytest

from ci.argocd import actions as argocd
from ci.argocd import apply, manifests, sync
from ci.common.console import say
from ci.common.kube import api_endpoint
from ci.common.manifest import parse
from ci.common.paths import CHECKOUT
from ci.deploy import secrets, up
from ci.deploy.charts import dependencies, template

from .conftest import follow, from_nothing
from .delivery import ENV

pytestmark = pytest.mark.e2e


def check() -> None:
    """Check that Argo CD itself synced every Application, and that the predictor answers."""
    for name, item in sync.applications().items():
        by = item["status"]["operationState"]["operation"]["initiatedBy"]
        assert by == {"automated": True}, f"{name} was synced by {by}"
    assert up.predict()["price"]


def test_all_at_once() -> None:
    revision, began = from_nothing()
    argocd.deliver(ENV)
    follow(revision, began)
    check()


def rendered(revision: str) -> list[apply.Object]:
    """The components' Applications, as the root Application renders them at this revision."""
    address, port = api_endpoint()
    values = [word for file in (f"{ENV}.yaml", f"images-{ENV}.yaml") for word in ("-f", f"{CHECKOUT}/values/{file}")]
    settings = {"direct": "false", "argocd.repoUrl": apply.GIT_URL, "argocd.targetRevision": revision,
             "global.kubeApi.cidr": f"{address}/32", "global.kubeApi.port": str(port)}  # fmt: skip
    words = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    return parse(template("platform", *values, *words, namespace=apply.NAMESPACE))


@pytest.mark.long
def test_one_by_one_in_random_order() -> None:
    """Create the components' Applications at random times and the root last. No order blocks the platform."""
    seed = time.time_ns() % 1_000_000
    chance = random.Random(seed)  # noqa: S311
    revision, began = from_nothing()
    *projects, _ = manifests.delivery(ENV, apply.GIT_URL)
    secrets.create()
    apply.apply(projects)
    dependencies()
    order = rendered(revision)
    chance.shuffle(order)
    say(f"seed {seed}: {', '.join(item['metadata']['name'] for item in order)}")
    for item in order:
        apply.apply([item])
        time.sleep(chance.uniform(0, 8))
    argocd.deliver(ENV)
    follow(revision, began)
    check()
