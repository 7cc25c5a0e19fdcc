"""A pod of each component reaches exactly the servers that the table in tests/kit/reachability.py gives it.

It needs an installed platform with a champion, and changes nothing on it. A connection is open if the server accepts
it. A network plugin may refuse or drop the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ci.common.console import say
from tests.kit.reachability import API_SERVER, DNS, OUTSIDE, expected

from . import probes

pytestmark = pytest.mark.e2e

CONTROL = "pod without a policy"
CONTROLLER = "ingress controller"  # a pod in its namespace
# values/kind.yaml enables no Ingress that leads past the login
LOGIN = {f"oauth2-proxy:{port}" for port in (5000, 8080, 8501, 9090)}


@pytest.fixture(scope="module")
def reached() -> Iterator[tuple[set[str], dict[str, set[str]]]]:
    """All targets, and the targets that each client reached."""
    inside, callers = probes.services(), probes.clients()
    with probes.outside() as addresses:
        targets = inside | addresses
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": probes.OPEN_SPACE, "labels": labels}}
        control = probes.pod(CONTROL, probes.OPEN_SPACE, {}, addresses, set(addresses))
        pods = [probes.pod(client, *where, targets, expected(client, set(targets)))
                for client, where in callers.items()]  # fmt: skip
        controller = probes.pod(CONTROLLER, "kube-system", {}, targets, LOGIN | set(addresses))
        with probes.ended([space, control, controller, *pods]) as by_client:
            yield set(targets), by_client


def test_addresses_outside_answer_a_pod_without_a_policy(reached: tuple[set[str], dict[str, set[str]]]) -> None:
    """Otherwise it would mean nothing that the platform's pods do not reach them."""
    targets, by_client = reached
    assert by_client[CONTROL] == targets & {API_SERVER, OUTSIDE, DNS}


def test_every_component_reaches_exactly_its_servers(reached: tuple[set[str], dict[str, set[str]]]) -> None:
    targets, by_client = reached
    installed = {client: now for client, now in by_client.items() if client not in (CONTROL, CONTROLLER)}
    wrong = []
    for client, now in installed.items():
        wanted = expected(client, targets)
        wrong += [f"{client} reaches {target}, which its policies must deny" for target in sorted(now - wanted)]
        wrong += [f"{client} does not reach {target}" for target in sorted(wanted - now)]
    say(f"{len(installed)} clients, {len(targets)} targets: {sum(len(now) for now in installed.values())} open")
    assert not wrong, "\n".join(wrong)


def test_ingress_controller_reaches_the_login_and_no_page_behind_it(
    reached: tuple[set[str], dict[str, set[str]]],
) -> None:
    targets, by_client = reached
    assert by_client[CONTROLLER] == LOGIN | (targets & {API_SERVER, OUTSIDE, DNS})
