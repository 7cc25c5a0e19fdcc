"""Receivers of alerts: each enabled one is in the configuration, and has its key of the Secret and its egress rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from ci.deploy import notifications, receivers
from tests.kit.rendering import Object, find, parse, text

CIDR = "10.43.100.104/32"
EMAIL = {"to": "team@house.example", "from": "alerts@house.example", "smarthost": "smtp.house.example:2525"}
# Values of one receiver, the keys of the Secret that it reads, and the port that it sends to.
EACH: dict[str, tuple[dict[str, Any], set[str], int]] = {
    "webhook": ({"webhook": {"port": 8443}}, {"webhook-url"}, 8443),
    "slack": ({"slack": {}}, {"slack-url"}, 443),
    "email": ({"email": EMAIL | {"username": "alerts"}}, {"smtp-password"}, 2525),
    "email without login": ({"email": EMAIL | {"requireTls": False}}, set(), 2525),
    "heartbeat": ({"heartbeat": {}}, {"heartbeat-url"}, 443),
}
each = pytest.mark.parametrize("case", EACH)


def words(values: dict[str, Any], cidr: object = CIDR, **more: object) -> tuple[str, ...]:
    """Arguments of helm that enable these receivers."""
    on = {name: value | {"enabled": True} for name, value in values.items()} | more
    return (
        *("--set-json", f"monitoring.alertmanager.receivers={json.dumps(on)}"),
        *("--set-json", f"global.notifications.cidr={json.dumps(cidr)}"),
    )


def configuration(items: list[Object]) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load(find(items, "ConfigMap", "alertmanager")["data"]["alertmanager.yaml"])
    return settings


def mounted(items: list[Object]) -> set[str]:
    """Keys of the receivers' Secret that the pod mounts."""
    volumes = find(items, "Deployment", "alertmanager")["spec"]["template"]["spec"]["volumes"]
    secrets = [volume["secret"] for volume in volumes if "secret" in volume]
    return {item["key"] for secret in secrets for item in secret["items"]}


def opened(items: list[Object]) -> set[tuple[str, int]]:
    """Networks and ports outside of the cluster that Alertmanager may reach."""
    rules = find(items, "NetworkPolicy", "alertmanager")["spec"]["egress"]
    return {
        (peer["ipBlock"]["cidr"], port["port"])
        for rule in rules
        for peer in rule["to"]
        if "ipBlock" in peer
        for port in rule["ports"]
    }


def test_without_a_receiver_nothing_is_sent_mounted_or_opened(env: str) -> None:
    items = parse(text(env))
    assert [set(receiver) for receiver in configuration(items)["receivers"]] == [{"name"}, {"name"}]
    assert mounted(items) == set()
    assert opened(items) == set()
    assert not notifications.notifies(items)


def test_network_without_a_receiver_opens_nothing() -> None:
    assert opened(parse(text("kind", *words({})))) == set()


@each
def test_enabled_receiver_has_its_key_and_its_egress(case: str) -> None:
    values, keys, port = EACH[case]
    items = parse(text("kind", *words(values)))
    named = {receiver["name"]: set(receiver) - {"name"} for receiver in configuration(items)["receivers"]}
    kind = case.partition(" ")[0]
    expected = {"heartbeat": "webhook_configs"}.get(kind, f"{kind}_configs")
    assert named["heartbeat" if kind == "heartbeat" else "team"] == {expected}
    assert sum(map(len, named.values())) == 1
    assert mounted(items) == keys
    assert opened(items) == {(CIDR, port)}


@each
def test_every_file_of_the_configuration_is_mounted(case: str) -> None:
    items = parse(text("kind", *words(EACH[case][0])))
    files = {
        value
        for receiver in configuration(items)["receivers"]
        for settings in receiver.values()
        if isinstance(settings, list)
        for key, value in settings[0].items()
        if key.endswith("_file")
    }
    mounts = find(items, "Deployment", "alertmanager")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    [folder] = [mount["mountPath"] for mount in mounts if mount["name"] == "receivers"] or [""]
    assert files == {f"{folder}/{key}" for key in mounted(items)}


def test_every_end_of_an_alert_is_sent_too() -> None:
    items = parse(text("kind", *words({"webhook": {}, "slack": {}, "email": EMAIL})))
    team = configuration(items)["receivers"][0]
    assert [settings[0]["send_resolved"] for key, settings in team.items() if key != "name"] == [True] * 3


def test_only_the_watchdog_goes_to_the_heartbeat_and_often() -> None:
    route = configuration(parse(text("kind", *words({"heartbeat": {}}))))["route"]
    to = {child["receiver"]: child for child in route["routes"]}
    assert to["heartbeat"]["matchers"] == ['alertname="Watchdog"']
    assert (to["heartbeat"]["group_interval"], to["heartbeat"]["repeat_interval"]) == ("1m", "2m")
    assert {route["receiver"], *to} == {"team", "heartbeat"}


def test_several_receivers_share_a_port_once_and_may_be_in_several_networks() -> None:
    networks = ["10.43.100.104/32", "192.168.7.0/24"]
    items = parse(text("kind", *words({"webhook": {}, "slack": {}, "email": EMAIL}, networks)))
    assert opened(items) == {(network, port) for network in networks for port in (443, 2525)}
    assert len(find(items, "NetworkPolicy", "alertmanager")["spec"]["egress"]) == 3  # DNS and two ports


def test_keys_and_name_of_the_secret_are_those_that_make_secrets_writes() -> None:
    assert set().union(*(keys for _, keys, _ in EACH.values())) == set(receivers.KEYS.values())
    items = parse(text("kind", *words({"webhook": {}})))
    volumes = find(items, "Deployment", "alertmanager")["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in volumes if "secret" in volume] == [receivers.SECRET]


def test_certificates_of_a_private_authority_are_added_to_those_of_the_image() -> None:
    items = parse(text("kind", *words({"webhook": {}}, privateAuthority=True)))
    assert mounted(items) == {"webhook-url", receivers.CERTIFICATES_KEY}
    [container] = find(items, "Deployment", "alertmanager")["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "SSL_CERT_FILE", "value": f"/etc/receivers/{receivers.CERTIFICATES_KEY}"}]


def test_own_configuration_replaces_the_generated_one_and_sends_to_port_443() -> None:
    own = {"route": {"receiver": "mine"}, "receivers": [{"name": "mine", "webhook_configs": [{"url": "https://x"}]}]}
    own_words = ("--set-json", f"monitoring.alertmanager.config={json.dumps(own)}")
    items = parse(text("kind", *own_words, *words({})))
    assert configuration(items) == own
    assert opened(items) == {(CIDR, 443)}


@each
def test_warning_of_the_installation_ends_with_a_receiver_for_people(case: str) -> None:
    assert notifications.notifies(parse(text("kind", *words(EACH[case][0])))) == (case != "heartbeat")


def test_platform_without_monitoring_gets_no_warning() -> None:
    assert notifications.notifies(parse(text("kind", "--set", "monitoring.enabled=false")))


@each
def test_doctor_looks_for_exactly_the_mounted_keys(case: str) -> None:
    values, keys, _ = EACH[case]
    wanted = sorted(f"mlops/{receivers.SECRET}/{key}" for key in keys)
    assert notifications.keys(parse(text("kind", *words(values)))) == wanted
