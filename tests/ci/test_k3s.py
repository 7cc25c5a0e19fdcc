"""The settings for K3s keep what this repository says elsewhere."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml

from ci.cluster import settings
from ci.doctor import network
from ci.paths import CHECKOUT


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHECKOUT / "ci/k3s" / name).read_text())
    return found


def test_ranges_are_those_that_the_doctor_advises_and_the_one_node_cluster_has() -> None:
    config = read("config.yaml")
    found = (config["cluster-cidr"], config["service-cidr"], config["cluster-dns"])
    assert found == (network.POD_CIDR, network.SERVICE_CIDR, network.DNS_SERVICE)
    assert found == (settings.POD_CIDR, settings.SERVICE_CIDR, settings.DNS_SERVICE)
    assert ip_address(found[2]) in ip_network(found[1])
    assert "--cluster-cidr={} --service-cidr={} --cluster-dns={}".format(*found) == network.K3S


@pytest.mark.parametrize("env", ["vm", "prod"])
def test_ranges_do_not_swallow_the_data_api(env: str) -> None:
    data_api = ip_network(yaml.safe_load((CHECKOUT / f"values/{env}.yaml").read_text())["global"]["dataApi"]["cidr"])
    config = read("config.yaml")
    assert not any(data_api.overlaps(ip_network(config[name])) for name in ("cluster-cidr", "service-cidr"))


def test_the_file_that_the_api_server_is_told_of_is_the_one_to_install() -> None:
    [argument] = read("config.yaml")["kube-apiserver-arg"]
    assert argument == "admission-control-config-file=/etc/rancher/k3s/psa.yaml"
    [plugin] = read("psa.yaml")["plugins"]
    assert plugin["configuration"]["defaults"]["enforce"] == "baseline"


def test_registry_is_the_one_of_the_example() -> None:
    assert list(read("registries.yaml")["configs"]) == ["registry.example"]
    assert "global.imageRegistry: registry.example/house" in (CHECKOUT / "ci/k3s/registries.yaml").read_text()
