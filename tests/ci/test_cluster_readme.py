"""ci/cluster/README.md names everything that the one-node cluster installs, opens, changes and takes back."""

from __future__ import annotations

import pytest

from ci.cluster import build, host, onenode, settings
from ci.paths import CHECKOUT

README = (CHECKOUT / "ci" / "cluster" / "README.md").read_text()
FACTS = {
    "Debian package": build.PACKAGES,
    "program": onenode.COMPONENTS,
    "port": tuple(str(port) for ports in settings.PORTS.values() for port in ports),
    "network": (settings.POD_CIDR, settings.NODE_POD_CIDR, settings.SERVICE_CIDR),
    "address": (settings.NODE_ADDRESS, settings.API_SERVICE, settings.DNS_SERVICE, settings.BRIDGE),
    "socket": (str(settings.SOCKET), str(settings.NETPOL_SOCKET)),
    "nft table": settings.NFT_TABLES,
    "kernel setting": tuple(host.SYSCTLS),
    "folder": (*host.FIXED_FOLDERS, "HOUSE_STATE_DIR", "HOUSE_CACHE_DIR"),
}


@pytest.mark.parametrize(("kind", "fact"), [(kind, fact) for kind, facts in FACTS.items() for fact in facts])
def test_the_readme_names_it(kind: str, fact: str) -> None:
    assert fact in README, f"ci/cluster/README.md does not name the {kind} {fact}"
