"""Cuts a kind cluster off from everything outside its nodes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ci.cluster import containers, settings
from ci.cluster.docker import Docker

TABLE = "inet house_closed"
RULES = """
table {table} {{
  counter refused {{}}
  chain programs {{
    type filter hook output priority -10; policy accept;
    ct state established,related accept comment "answers to kubectl on the machine"
    oifname "lo" accept
    ip daddr 127.0.0.0/8 accept comment "Docker's resolver; its packets still have the interface of its first address"
    ip daddr {{ {allowed} }} accept
    meta nfproto ipv4 counter name refused reject
  }}
  chain pods {{
    type filter hook forward priority -10; policy accept;
    ip daddr {{ {allowed} }} accept
    ip saddr {pods} counter name refused reject
  }}
}}
"""


@contextmanager
def cut(engine: Docker) -> Iterator[Callable[[], int]]:
    """Block all packets that programs on a node (such as containerd, the kubelet) or pods send out of the cluster.

    Yields:
        a function that returns the number of packets refused so far.
    """
    nodes = containers.nodes(engine)
    allowed = ", ".join([settings.POD_CIDR, settings.SERVICE_CIDR, containers.node_network(engine)])
    rules = RULES.format(table=TABLE, allowed=allowed, pods=settings.POD_CIDR)
    for node in nodes:
        engine.run("exec", "-i", node, "nft", "-f", "-", stdin=rules)
    try:
        _prove(engine, nodes)
        yield lambda: sum(_refused(engine, node) for node in nodes)
    finally:
        for node in nodes:
            engine.run("exec", node, "nft", "delete", "table", *TABLE.split())


def _prove(engine: Docker, nodes: list[str]) -> None:
    """Check on each node: requests to the outside are refused and counted, and the API server is reachable."""
    for node in nodes:
        for url, allowed in (("http://192.0.2.1/", False), (f"https://{settings.CONTROL_PLANE}:6443/version", True)):
            done = subprocess.run(
                ["docker", "exec", node, "curl", "-sk", "-m", "5", url],
                env=dict(engine.environment), capture_output=True, text=True, check=False, timeout=30,
            )  # fmt: skip
            assert (done.returncode == 0) == allowed, f"{node} -> {url}: code {done.returncode}"
        assert _refused(engine, node) > 0


def _refused(engine: Docker, node: str) -> int:
    words = engine.run("exec", node, "nft", "list", "counter", *TABLE.split(), "refused").split()
    return int(words[words.index("packets") + 1])
