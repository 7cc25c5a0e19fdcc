"""Requirements of an environment: a record that is saved as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ci.common.console import Failure


@dataclass(frozen=True)
class Requirements:
    """Requirements of an environment; `ci.doctor.rendered` computes them from the rendered charts."""

    env: str
    made: float = 0  # time of the commit, seconds since 1970
    images: list[str] = field(default_factory=list)  # as `registry/name:tag@sha256:...`
    images_missing: str = ""  # name of the file with the images, if it is missing
    cpu: float = 0  # sum of all requests, cores
    memory: int = 0  # sum of all requests, bytes
    volumes: int = 0  # sum of all volume claims, bytes
    storage_classes: list[str] = field(default_factory=list)  # named by claims; "" is the default class
    secrets: list[str] = field(default_factory=list)  # `namespace/name`, made by `make secrets`
    secret_keys: list[str] = field(default_factory=list)  # of those Secrets, `namespace/name/key`
    foreign_secrets: list[str] = field(
        default_factory=list
    )  # referred to by objects, but not created by this repository
    receiver_keys: list[str] = field(default_factory=list)  # of Alertmanager, `namespace/secret/key`, set by a person
    notifies: bool = True  # whether a receiver of alerts is enabled
    hosts: list[str] = field(default_factory=list)  # of Ingresses
    data_api: str = ""  # URL of an external data API; "" if the stand-in is installed
    data_api_cidr: str = ""  # CIDR that the network policies allow for it
    mlflow: dict[str, str] = field(default_factory=dict)  # version locked by each image: server, pipeline

    def save(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def load(path: Path) -> Requirements:
    """Read what `save` wrote.

    Raises:
        Failure: the file is missing, or is not a file of `save`.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as wrong:
        raise Failure(
            f"{path} cannot be read ({wrong}): `python -m ci.doctor.rendered --env <env>` writes it"
        ) from wrong
    unknown = sorted(set(content) - {one.name for one in fields(Requirements)})
    if unknown or "env" not in content:
        raise Failure(
            f"{path} is not a file of `python -m ci.doctor.rendered`: {', '.join(unknown) or 'env is missing'}"
        )
    return Requirements(**content)
