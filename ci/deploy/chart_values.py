"""The values of an environment for the umbrella chart: files of the checkout, and addresses read from the cluster."""

from __future__ import annotations

import re

from ci import cluster
from ci.common.console import Failure
from ci.common.environments import names_nodes
from ci.common.kube import api_endpoint, egress_values
from ci.common.paths import CHECKOUT


def value_arguments(env: str, extra: list[str]) -> list[str]:
    """`-f` and `--set` arguments of an environment, including values that are read from the cluster."""
    images = CHECKOUT / "values" / f"images-{env}.yaml"
    if not images.exists():
        raise Failure(
            f"values/{images.name} is missing: `make images ENV={env}` builds images here and writes it, "
            f"`make release ENV={env}` writes it for published images"
        )
    files = [CHECKOUT / "values" / f"{env}.yaml", images]
    arguments = [word for file in files for word in ("-f", str(file))]
    arguments += [word for path, value in egress(env).items() for word in ("--set", f"{path}={value}")]
    return arguments + [word for setting in extra for word in (_flag(setting), setting)]


def egress(env: str) -> dict[str, str]:
    """Addresses of API servers and nodes for egress rules, as values for `--set`.

    Nodes of kind get new addresses when they restart, so for kind it is the network of all nodes.
    """
    network = cluster.node_network()
    if not network:
        return egress_values(nodes=not names_nodes(env, CHECKOUT))
    _, port = api_endpoint()
    return {"global.kubeApi.cidr": network, "global.kubeApi.port": str(port)}


def _flag(setting: str) -> str:
    """`--set`; for a decimal number `--set-json`, because `--set` makes it a string, which the schemas refuse."""
    return "--set-json" if re.fullmatch(r"[^=]+=-?\d+\.\d+", setting) else "--set"
