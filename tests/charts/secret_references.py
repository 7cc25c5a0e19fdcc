"""The Secrets that `make secrets` creates, those that it does not, and the references of workloads to Secrets."""

from __future__ import annotations

from collections.abc import Iterator

from ci.deploy import api_keys, receivers
from ci.deploy.secrets import generate
from tests.kit.rendering import Workload

MADE = generate("mlops", "mlops-jobs") | {
    ("mlops", receivers.SECRET): dict.fromkeys((*receivers.KEYS.values(), receivers.CERTIFICATES_KEY), "")
}
# Secrets that `make secrets` does not create: the keys of a system outside the cluster, which only an operator can
# create, and the keys of clients, which `make api-key` creates. The references must be optional.
OUTSIDE = {("mlops", "backup-target"), ("mlops", api_keys.SECRET)}


def references(workload: Workload) -> Iterator[tuple[str, str, str | None]]:
    """Container or volume, Secret, and the key (None for all keys)."""
    for container in workload.containers:
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                yield container["name"], source["secretRef"]["name"], None
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield f"{container['name']}.{variable['name']}", reference["name"], reference["key"]
    for volume in workload.pod.get("volumes", []):
        if "secret" in volume:
            yield f"volume {volume['name']}", volume["secret"]["secretName"], None
        for source in volume.get("projected", {}).get("sources", []):
            if "secret" in source:
                yield f"volume {volume['name']}", source["secret"]["name"], None
