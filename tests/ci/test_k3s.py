"""The settings for K3s keep what this repository says elsewhere."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci.cluster import settings
from ci.common.paths import CHECKOUT
from ci.doctor import network

# Programs that write down how they are called. K3s is there once it is installed; a download is a copy.
PROGRAMS = {
    "id": "echo ${USER_ID:-0}",
    "uname": "echo ${MACHINE:-x86_64}",
    "install": """echo "install $*" >>"$CALLS"
case "$*" in *' k3s /usr/local/bin/k3s') cp k3s "$BIN/k3s" && chmod 755 "$BIN/k3s" ;; esac""",
    "curl": """echo "curl $*" >>"$CALLS"
for url; do :; done
cp "$RELEASE/${url##*/}" .""",
}
K3S = b'#!/bin/sh\necho "k3s $*" >>"$CALLS"\necho node/house\n'
AIRGAP = "k3s-airgap-images-amd64.tar.zst"


class Machine:
    """A machine without K3s, and a folder with the files of a release."""

    def __init__(self, place: Path) -> None:
        self.bin, self.release, self.log = place / "bin", place / "release", place / "calls"
        for folder in (self.bin, self.release):
            folder.mkdir()
        for name, text in PROGRAMS.items():
            (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.bin / name).chmod(0o755)
        (self.release / "k3s").write_bytes(K3S)
        (self.release / "install.sh").write_text('echo "install.sh $INSTALL_K3S_SKIP_DOWNLOAD" >>"$CALLS"\n')
        self.here = place / "k3s"  # up.sh and its settings, with the checksums of this release
        shutil.copytree(CHECKOUT / "ci/k3s", self.here)
        sums = {"k3s": K3S, "install.sh": (self.release / "install.sh").read_bytes(), AIRGAP: b"images"}
        lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sums.items()]
        (self.here / "checksums.sha256").write_text("".join(lines))

    def up(self, *words: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run up.sh; returns how it ended and what it called."""
        self.log.write_text("")
        variables = {"PATH": f"{self.bin}:/usr/bin:/bin", "BIN": str(self.bin), "CALLS": str(self.log), **environment}
        done = subprocess.run(
            ["sh", self.here / "up.sh", *words],
            env={**variables, "RELEASE": str(self.release)}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done, self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CHECKOUT / "ci/k3s" / name).read_text())
    return content


def test_ranges_are_those_that_the_doctor_advises_and_the_kind_cluster_has() -> None:
    config = read("config.yaml")
    ranges = (config["cluster-cidr"], config["service-cidr"], config["cluster-dns"])
    assert ranges == (network.POD_CIDR, network.SERVICE_CIDR, network.DNS_SERVICE)
    assert ranges[:2] == (settings.POD_CIDR, settings.SERVICE_CIDR)
    assert ip_address(ranges[2]) in ip_network(ranges[1])
    assert "--cluster-cidr={} --service-cidr={} --cluster-dns={}".format(*ranges) == network.K3S


@pytest.mark.parametrize("env", ["vm", "prod"])
def test_ranges_do_not_swallow_the_data_api(env: str) -> None:
    data_api = ip_network(yaml.safe_load((CHECKOUT / f"values/{env}.yaml").read_text())["global"]["dataApi"]["cidr"])
    config = read("config.yaml")
    assert not any(data_api.overlaps(ip_network(config[name])) for name in ("cluster-cidr", "service-cidr"))


def test_the_file_that_the_api_server_is_told_of_is_the_one_to_install() -> None:
    arguments = dict(argument.split("=") for argument in read("config.yaml")["kube-apiserver-arg"])
    assert arguments["admission-control-config-file"] == "/etc/rancher/k3s/psa.yaml"
    assert arguments["audit-policy-file"] == "/etc/rancher/k3s/audit.yaml"
    [plugin] = read("psa.yaml")["plugins"]
    assert plugin["configuration"]["defaults"]["enforce"] == "baseline"


def test_audit_log_has_who_changed_a_secret_and_never_its_values() -> None:
    policy = read("audit.yaml")
    assert (policy["apiVersion"], policy["kind"]) == ("audit.k8s.io/v1", "Policy")
    assert {rule["level"] for rule in policy["rules"]} == {"Metadata", "None"}, "Request has the values of a Secret"
    everybody = [rule for rule in policy["rules"] if not {"users", "userGroups"} & rule.keys()]
    assert everybody[0] == {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]}
    for rule in policy["rules"]:
        if rule not in everybody:
            who = [*rule.get("users", []), *rule.get("userGroups", [])]
            assert rule["level"] == "None"
            assert all(name.startswith("system:") for name in who), "people are never left out"
            assert not {"system:admin", "system:masters", "system:authenticated"} & set(who)


def test_folder_of_the_audit_log_is_made_and_the_log_is_bounded() -> None:
    arguments = dict(argument.split("=") for argument in read("config.yaml")["kube-apiserver-arg"])
    folder = Path(arguments["audit-log-path"]).parent
    assert f"install -d -m 700 /etc/rancher/k3s {folder}\n" in (CHECKOUT / "ci/k3s/up.sh").read_text()
    megabytes = int(arguments["audit-log-maxsize"]) * (int(arguments["audit-log-maxbackup"]) + 1)
    assert f"at most {megabytes / 1000:.1f} GB" in (CHECKOUT / "ci/k3s/README.md").read_text()


def test_registry_is_the_one_of_the_example() -> None:
    assert list(read("registries.yaml")["configs"]) == ["registry.example"]
    assert "global.imageRegistry: registry.example/house" in (CHECKOUT / "ci/k3s/registries.yaml").read_text()


def test_settings_are_in_place_before_k3s_is_installed_and_started(machine: Machine) -> None:
    done, calls = machine.up(str(machine.release))
    files = " ".join(f"{machine.here}/{name}.yaml" for name in ("config", "psa", "audit"))
    assert done.returncode == 0, done.stderr
    assert calls == [
        "install -d -m 700 /etc/rancher/k3s /var/lib/rancher/k3s/server/logs",
        f"install -m 600 {files} /etc/rancher/k3s/",
        "install -m 755 k3s /usr/local/bin/k3s",
        "install.sh true",
        "k3s kubectl get nodes -o name",
        "k3s kubectl wait --for=condition=Ready node --all --timeout=180s",
    ]


def test_images_of_a_closed_network_lie_where_k3s_imports_them_when_it_starts(machine: Machine) -> None:
    (machine.release / AIRGAP).write_bytes(b"images")
    done, calls = machine.up(str(machine.release))
    assert done.returncode == 0, done.stderr
    put = calls.index(f"install -D -m 644 {AIRGAP} -t /var/lib/rancher/k3s/agent/images/")
    assert put < calls.index("install.sh true")


def test_without_a_folder_the_release_of_one_version_is_fetched(machine: Machine) -> None:
    done, calls = machine.up()
    assert done.returncode == 0, done.stderr
    fetched = [line.rpartition(" ")[2] for line in calls if line.startswith("curl ")]
    tag = fetched[0].split("/")[-2]
    assert fetched == [
        f"https://github.com/k3s-io/k3s/releases/download/{tag}/k3s",
        f"https://raw.githubusercontent.com/k3s-io/k3s/{tag}/install.sh",
    ]
    assert f"VERSION={tag.replace('%2B', '+')} #" in (CHECKOUT / "ci/k3s/up.sh").read_text()


@pytest.mark.parametrize("name", ["k3s", "install.sh", AIRGAP])
def test_a_damaged_file_is_refused_before_anything_is_installed(machine: Machine, name: str) -> None:
    (machine.release / AIRGAP).write_bytes(b"images")
    with (machine.release / name).open("ab") as file:
        file.write(b"#")
    done, calls = machine.up(str(machine.release))
    assert (done.returncode, calls) == (1, [])
    assert "REFUSED: the files do not match the checksums of v" in done.stderr


@pytest.mark.parametrize("name", ["k3s", "install.sh"])
def test_a_missing_file_is_refused_before_anything_is_installed(machine: Machine, name: str) -> None:
    (machine.release / name).unlink()
    done, calls = machine.up(str(machine.release))
    assert (done.returncode, calls) == (1, [])
    assert f"REFUSED: {machine.release} has no {name}" in done.stderr


def test_checksums_of_another_place_do_not_count(machine: Machine) -> None:
    with (machine.release / "k3s").open("ab") as file:
        file.write(b"#")
    digest = hashlib.sha256((machine.release / "k3s").read_bytes()).hexdigest()
    for name in ("sha256sum-amd64.txt", "checksums.sha256"):
        (machine.release / name).write_text(f"{digest}  k3s\n")
    done, calls = machine.up(str(machine.release))
    assert (done.returncode, calls) == (1, []), "the folder brought checksums of its own"


def test_committed_checksums_cover_every_file_that_is_installed() -> None:
    lines = (CHECKOUT / "ci/k3s/checksums.sha256").read_text().splitlines()
    assert [line.partition("  ")[2] for line in lines] == ["k3s", "install.sh", AIRGAP]
    assert all(re.fullmatch(r"[0-9a-f]{64}", line.partition("  ")[0]) for line in lines)


@pytest.mark.parametrize(
    ("variables", "message"),
    [({"USER_ID": "1000"}, "run it as root"), ({"MACHINE": "aarch64"}, "for amd64, and this machine is aarch64")],
)
def test_it_refuses_other_users_and_architectures(machine: Machine, variables: dict[str, str], message: str) -> None:
    done, calls = machine.up(str(machine.release), **variables)
    assert (done.returncode, calls, message in done.stderr) == (1, [], True), done.stderr


def test_it_refuses_to_replace_an_installed_k3s(machine: Machine) -> None:
    shutil.copy(machine.release / "k3s", machine.bin)
    (machine.bin / "k3s").chmod(0o755)
    done, calls = machine.up(str(machine.release))
    assert (done.returncode, calls, "K3s is already installed" in done.stderr) == (1, [], True)
