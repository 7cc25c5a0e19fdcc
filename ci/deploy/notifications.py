"""Reads from rendered objects whom Alertmanager notifies, and which keys of a Secret it needs for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

WATCHDOGS = "heartbeat"  # the receiver of the alert Watchdog only: no person reads it


def notifies(objects: Sequence[dict[str, Any]]) -> bool:
    """Whether Alertmanager has a receiver for people, or is not among the objects."""
    texts = [item["data"]["alertmanager.yaml"] for item in objects if _is(item, "ConfigMap")]
    return not texts or any(
        settings
        for text in texts
        for receiver in yaml.load(text, Loader=yaml.CSafeLoader)["receivers"]
        if receiver["name"] != WATCHDOGS
        for name, settings in receiver.items()
        if name.endswith("_configs")
    )


def keys(objects: Sequence[dict[str, Any]]) -> list[str]:
    """Keys that Alertmanager's pod needs to start, as `namespace/secret/key`."""
    return sorted(
        f"{item['metadata']['namespace']}/{volume['secret']['secretName']}/{one['key']}"
        for item in objects
        if _is(item, "Deployment")
        for volume in item["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
        for one in volume["secret"]["items"]
    )


def _is(item: dict[str, Any], kind: str) -> bool:
    return bool(item["kind"] == kind and item["metadata"]["name"] == "alertmanager")
