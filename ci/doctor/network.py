"""Checks of CIDRs, name servers and the connection to the data API."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from ci.doctor.requirements import Requirements
from ci.doctor.result import Result, fail, ok, skip, warn

POD_CIDR, SERVICE_CIDR, DNS_SERVICE = "10.44.0.0/16", "10.45.0.0/16", "10.45.0.10"
K3S = f"--cluster-cidr={POD_CIDR} --service-cidr={SERVICE_CIDR} --cluster-dns={DNS_SERVICE}"
# Interfaces whose routes belong to the cluster.
OWN = ("cni", "flannel", "veth", "house", "cali", "vxlan.calico", "cilium", "lxc", "kube-", "nodelocaldns")
ROOT = Path("/")


def routes(root: Path = ROOT) -> list[tuple[str, IPv4Network]]:
    """Interface and network of each IPv4 route of this machine, without the default route and those of the cluster."""
    entries = []
    for line in (root / "proc/net/route").read_text().splitlines()[1:]:
        interface, destination, _, _, _, _, _, mask = line.split()[:8]
        network = IPv4Network(f"{_address(destination)}/{_address(mask)}")
        if network.prefixlen and not interface.startswith(OWN):
            entries.append((interface, network))
    return entries


def _address(text: str) -> IPv4Address:
    """Parse an address of /proc/net/route: hexadecimal, lowest byte first."""
    return IPv4Address(bytes.fromhex(text)[::-1])


def cidrs(
    pods: str, services: str, occupied: Iterable[tuple[str, IPv4Network]], addresses: dict[str, str], running: bool
) -> Result:
    """Check that the cluster's networks overlap no route of this machine and no address that pods must reach.

    `addresses`: address by the name of its server. Packets to an address in a cluster network never leave the cluster.
    """
    fix = f"install K3s with {K3S}, or with other ranges that nothing here uses"
    if running:
        fix = f"the ranges of a cluster cannot be changed: remove it (k3s-uninstall.sh) and {fix}"
    for name, text in (("service", services), ("pod", pods)):
        network = ip_network(text, strict=False)
        for what, address in addresses.items():
            if ip_address(address) in network:
                return fail(
                    "cidr",
                    f"{what} at {address} lies inside the cluster's {name} network {text}: "
                    "packets of pods to it never leave the cluster",
                    fix,
                )
        for interface, route in occupied:
            if isinstance(network, IPv4Network) and network.overlaps(route):
                return fail(
                    "cidr",
                    f"the cluster's {name} network {text} overlaps the route to {route} by {interface}: "
                    "pods cannot reach that network, and it cannot reach the cluster",
                    fix,
                )
    return ok("cidr", f"pods {pods}, services {services}: they overlap no route and no address outside the cluster")


def policy_opening(needs: Requirements, address: str) -> Result:
    """Check that the egress rule for the data API allows the address in its URL."""
    check = "data API rule"
    if not needs.data_api:
        return skip(check, "the stand-in is installed; no data API outside")
    if not needs.data_api_cidr:
        return fail(
            check,
            f"{needs.data_api} is outside, and global.dataApi.cidr is empty: the network policies deny it",
            f"set global.dataApi.cidr in values/{needs.env}.yaml to {address or '<its address>'}/32",
        )
    if address and ip_address(address) not in ip_network(needs.data_api_cidr, strict=False):
        return fail(
            check,
            f"{needs.data_api} is at {address}, and the network policies open {needs.data_api_cidr} only",
            f"set global.dataApi.cidr in values/{needs.env}.yaml to {address}/32",
        )
    return ok(check, f"{needs.data_api_cidr} is open for {needs.data_api}")


def resolver(root: Path = ROOT) -> Result:
    """Check that pods can use the name servers of this machine."""
    check, file = "name servers", root / "etc/resolv.conf"
    rows = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    servers = [row[1] for row in rows if len(row) > 1 and row[0] == "nameserver"]
    if not servers:
        return fail(check, "/etc/resolv.conf names no name server: no name outside the cluster can be found",
                    "write `nameserver <address>` into /etc/resolv.conf")  # fmt: skip
    if all(ip_address(server.partition("%")[0]).is_loopback for server in servers):
        real = root / "run/systemd/resolve/resolv.conf"
        if real.exists() and "nameserver" in real.read_text():
            return ok(check, f"{', '.join(servers)} (systemd-resolved; its servers are in /{real.relative_to(root)})")
        return warn(
            check,
            f"{', '.join(servers)} is this machine itself, where a pod does not reach it: "
            "K3s then asks 8.8.8.8, which a closed network drops",
            "name a server that pods reach in a file, and start K3s with --resolv-conf=<file>",
        )
    return ok(check, ", ".join(servers))


def resolve(name: str) -> str:
    """Resolve a name to an IPv4 address; "" if DNS does not know it. An address is returned unchanged."""
    try:
        return str(socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0])
    except OSError:
        return ""


def data_api(needs: Requirements, timeout: float = 10) -> Result:
    """Request `GET /health` of the data API from this machine. Any other path may move the cursor of the API."""
    check = "data API"
    if not needs.data_api:
        return skip(check, "the stand-in is installed; no data API outside")
    url = f"{needs.data_api.rstrip('/')}/health"
    host = urlsplit(url).hostname or ""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # pods use no proxy for it
    try:
        with direct.open(url, timeout=timeout) as answer:
            return ok(check, f"{url} answers {answer.status}")
    except urllib.error.HTTPError as wrong:
        return warn(check, f"{url} answers {wrong.code}", "ask its owner; the pipeline tries again at each run")
    except OSError as away:
        why, fix = explain(away, host, urlsplit(url).port or 80)
        return fail(check, f"{url}: {why}", fix)


def explain(wrong: BaseException, host: str, port: int) -> tuple[str, str]:
    """Cause of a failed connection and its fix: DNS, certificate, no listener, or firewall."""
    reason = wrong.reason if isinstance(wrong, urllib.error.URLError) else wrong
    if isinstance(reason, socket.gaierror):
        return (
            f"DNS does not know {host}",
            f"ask the network's owner for a name server that does (try `getent hosts {host}`), or write /etc/hosts",
        )
    if isinstance(reason, ssl.SSLError):
        message = getattr(reason, "verify_message", "") or reason
        return (
            f"its certificate is not accepted ({message}): a private CA, or a firewall that opens TLS",
            "put the CA's certificate into /usr/local/share/ca-certificates, run update-ca-certificates, restart K3s",
        )
    if isinstance(reason, ConnectionRefusedError):
        return (
            f"{host} refuses connections to port {port}: nothing listens there, or a firewall rejects",
            f"check the address and that the server runs (`curl -v telnet://{host}:{port}`)",
        )
    if isinstance(reason, TimeoutError):
        return (
            f"no answer from {host} port {port}: a firewall drops the packets",
            f"ask the network's owner to open TCP {port} to {host}, set a proxy (HTTPS_PROXY), or use the bundle",
        )
    return f"{host} port {port}: {reason}", f"check routes and firewall (`ip route get {host}`)"
