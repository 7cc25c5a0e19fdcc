"""A cluster that `make cluster` did not create is changed only by somebody who typed the name of its context."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ci.argocd import actions as argocd
from ci.cluster.confirm import confirm_removal
from ci.cluster.record import Record, write_record
from ci.cluster.settings import kubeconfig_path
from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.deploy import helm_release, platform

KUBECTL = """#!/bin/sh
echo "$*" >>"{calls}"
[ "$*" = "config current-context" ] && [ -n "{context}" ] && echo "{context}"
"""


class Machine:
    """A machine whose kubectl has a current context, and writes its calls into a file."""

    def __init__(self, folder: Path) -> None:
        self.calls, self.program = folder / "calls", folder / "bin" / "kubectl"
        self.program.parent.mkdir()
        self.calls.touch()
        self.context("prod")

    def context(self, name: str) -> None:
        self.program.write_text(KUBECTL.format(calls=self.calls, context=name))
        self.program.chmod(0o755)

    def changes(self) -> list[str]:
        """Calls of kubectl, other than the question for the context."""
        return [line for line in self.calls.read_text().splitlines() if line != "config current-context"]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in ("CLUSTER", "CONFIRM", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOUSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(helm_release, "helm", lambda *_, **__: pytest.fail("helm was called"))
    return Machine(tmp_path)


def create_kind() -> None:
    """Write the record and the kubeconfig of a cluster of `make cluster`."""
    write_record(Record("c0ffee", "kindest/node", False, 40))
    kubeconfig_path().write_text("")


@pytest.mark.parametrize("variable", ["CLUSTER", "KUBECONFIG"])
@pytest.mark.parametrize("confirm", ["", "yes", "prod-eu", "kind-house"])
@pytest.mark.parametrize("remove", [platform.remove, argocd.remove])
def test_another_cluster_without_its_name_is_left_alone(
    variable: str, confirm: str, remove: object, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_kind()
    monkeypatch.setenv(variable, "current")  # for KUBECONFIG: a file of that name
    monkeypatch.setenv("CONFIRM", confirm)
    with pytest.raises(Failure, match=r"the cluster of the context prod: .* repeat the command with CONFIRM=prod$"):
        remove()  # type: ignore[operator]
    assert machine.changes() == []


def test_a_cluster_of_the_default_kubeconfig_is_not_taken_for_kind(machine: Machine) -> None:
    """Without a kind cluster, kubectl uses the kubeconfig of the user."""
    with pytest.raises(Failure, match="CONFIRM=prod"):
        platform.remove()
    assert machine.changes() == []


def test_the_name_of_the_context_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "current")
    monkeypatch.setenv("CONFIRM", "prod")
    confirm_removal("the platform")


@pytest.mark.parametrize("exported", [False, True])
def test_the_cluster_of_make_cluster_needs_no_confirmation(
    exported: bool, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_kind()
    if exported:  # by `eval $(python -m ci.cluster env)`
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig_path()))
    confirm_removal("the platform")
    assert machine.calls.read_text() == ""


def test_no_context_is_refused_because_kubectl_in_a_pod_reaches_its_cluster(machine: Machine) -> None:
    machine.context("")
    with pytest.raises(Failure, match="there is no current kubeconfig context; set KUBECONFIG"):
        confirm_removal("the platform")


def test_the_message_is_one_sentence() -> None:
    with pytest.raises(Failure) as refused:
        confirm_removal("the platform")
    assert "\n" not in str(refused.value)
    assert ". " not in str(refused.value)


@pytest.mark.parametrize(("confirm", "code"), [("", 1), ("prod", 0)])
def test_the_program_ends_with_1_unless_the_name_confirms(
    confirm: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIRM", confirm)
    command = [sys.executable, "-m", "ci.cluster", "confirm"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, "repeat the command with CONFIRM=prod" in done.stderr) == (code, bool(code)), done.stderr


@pytest.mark.parametrize("target", ["e2e", "e2e-gitops", "e2e-faults", "e2e-closed", "upgrade-test"])
def test_suites_on_a_cluster_ask_before_they_change_it(target: str) -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    match = re.search(rf"^{target}: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert match
    assert [line.split(" -m ")[1] for line in match[1].splitlines()[:2]] == ["ci.cluster up", "ci.cluster confirm"]
