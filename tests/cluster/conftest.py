"""Tests of the one-node cluster itself, live; elsewhere they are skipped."""

from __future__ import annotations

import os

import pytest

from ci.cluster import kinds, onenode, settings


@pytest.fixture(scope="session", autouse=True)
def one_node_cluster() -> None:
    """Skip where the cluster that tests and programs mean is not a running one-node cluster."""
    present = kinds.choose().name
    if present != "onenode":
        pytest.skip(f"these tests are of the one-node cluster; the present one is {present}")
    if os.environ.get("KUBECONFIG", str(settings.kubeconfig_path())) != str(settings.kubeconfig_path()):
        pytest.skip("KUBECONFIG names another cluster than the one-node cluster")
    if not onenode.exists():
        pytest.skip("there is no one-node cluster on this machine: `make cluster` makes one")
