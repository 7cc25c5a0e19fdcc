"""The engine's network: a network namespace, a pair of interfaces to the machine, and an nftables table.

The table lets containers reach everything that the machine reaches. The rest of the machine's network does not change.
"""

from __future__ import annotations

import json
import shutil
from ipaddress import IPv4Network
from pathlib import Path

from ci.common.console import Failure, run

NAMESPACE = "house"
NAMESPACE_FILE = Path("/run/netns", NAMESPACE)
INTERFACE = "house0"  # the machine's end of the pair; the engine's end is called `uplink`
INTERFACE_FILE = Path("/sys/class/net", INTERFACE)
MACHINE_ADDRESS = "172.31.255.1"  # address at which nodes reach the machine
ENGINE_ADDRESS = "172.31.255.2"  # address of the ports that containers publish
LINK = "172.31.255.0/30"
CONTAINERS = "172.30.0.0/16"  # addresses of Docker's networks; only this machine reaches them
NFT_TABLE = "ip house_nat"


def check_addresses() -> None:
    """Check that no route of this machine overlaps the engine's address ranges.

    Raises:
        Failure: names every overlap.
    """
    overlaps = []
    for route in json.loads(run(["ip", "-4", "-j", "route"]).stdout or "[]"):
        target = route["dst"]
        if target == "default" or route.get("dev") == INTERFACE:
            continue
        overlaps += [
            f"the route to {target} by {route.get('dev', '?')} overlaps {ours}"
            for ours in (CONTAINERS, LINK)
            if IPv4Network(ours).overlaps(IPv4Network(target))
        ]
    if overlaps:
        raise Failure(
            "the engine's address ranges are in use on this machine:\n  "
            + "\n  ".join(overlaps)
            + "\nInstall and start Docker yourself, or use an existing cluster with CLUSTER=current."
        )


def connect() -> None:
    """Create the network namespace and its link to the machine. Idempotent."""
    if not NAMESPACE_FILE.exists():
        run(["ip", "netns", "add", NAMESPACE])
    if not INTERFACE_FILE.exists():
        peer = ["type", "veth", "peer", "name", "uplink", "netns", NAMESPACE]
        run(["ip", "link", "add", INTERFACE, "mtu", str(mtu()), *peer])
    run(["ip", "addr", "replace", f"{MACHINE_ADDRESS}/30", "dev", INTERFACE])
    run(["ip", "link", "set", INTERFACE, "up"])
    run(["ip", "route", "replace", CONTAINERS, "via", ENGINE_ADDRESS, "dev", INTERFACE])
    inside = ["ip", "-n", NAMESPACE]
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "link", "set", "uplink", "mtu", str(mtu())])
    run([*inside, "addr", "replace", f"{ENGINE_ADDRESS}/30", "dev", "uplink"])
    run([*inside, "link", "set", "uplink", "up"])
    run([*inside, "route", "replace", "default", "via", MACHINE_ADDRESS])
    rule = f"ip saddr {LINK} oifname != {INTERFACE} masquerade"
    chain = f"chain out {{ type nat hook postrouting priority 100; {rule}; }};"
    run(["nft", "-f", "-"], stdin=f"table {NFT_TABLE}\ndelete table {NFT_TABLE}\ntable {NFT_TABLE} {{ {chain} }}\n")


def open_ports() -> None:
    """Let the machine reach every port of a node, as with Docker on its own network. Needs the running engine."""
    rule = ["DOCKER-USER", "-i", "uplink", "-j", "ACCEPT"]
    inside = ["nsenter", f"--net={NAMESPACE_FILE}", "iptables"]
    if run([*inside, "-C", *rule], check=False).returncode:
        run([*inside, "-I", *rule])


def disconnect() -> None:
    """Remove everything that `connect` created. Idempotent."""
    if INTERFACE_FILE.exists():
        run(["ip", "link", "del", INTERFACE], check=False)
    if NAMESPACE_FILE.exists():
        run(["ip", "netns", "del", NAMESPACE], check=False)
    if _has_table():
        run(["nft", "delete", "table", *NFT_TABLE.split()], check=False)


def leftovers() -> list[str]:
    """Everything that `connect` created and that still exists."""
    left = []
    if INTERFACE_FILE.exists():
        left.append(f"interface {INTERFACE}")
    if NAMESPACE_FILE.exists():
        left.append(f"network namespace {NAMESPACE}")
    if _has_table():
        left.append(f"nft table {NFT_TABLE}")
    return left


def mtu() -> int:
    """MTU of the machine's default route. Containers must not send larger packets."""
    routes = json.loads(run(["ip", "-4", "-j", "route", "show", "default"]).stdout or "[]")
    files = [Path("/sys/class/net", route["dev"], "mtu") for route in routes if "dev" in route]
    return min([int(file.read_text()) for file in files if file.exists()], default=1500)


def _has_table() -> bool:
    if not shutil.which("nft"):
        return False
    return f"table {NFT_TABLE}" in run(["nft", "list", "tables"], check=False).stdout.splitlines()
