"""The record of the cluster that `up` created: a file in the state folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ci.cluster.settings import state

CREATING = "creating"


@dataclass(frozen=True)
class Record:
    """The cluster that `up` created.

    `container` is the id of the control plane's container, or `creating` until kind is done.
    """

    container: str
    image: str
    own_engine: bool
    seconds: float = 0  # from the start of the creation until everything was ready; 0 if the creation did not finish


def read_record() -> Record | None:
    """Read the record; None if `up` created no cluster."""
    file = state("cluster.json")
    return Record(**json.loads(file.read_text())) if file.exists() else None


def write_record(record: Record) -> None:
    """Write the record. An interrupted write leaves the previous record."""
    file = state("cluster.json")
    for folder in (file.parent, state("log")):
        folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(record), indent=2))
    partial.replace(file)


def creation_seconds() -> float:
    """Seconds that the creation of the cluster took; 0 if there is no cluster or its creation did not finish."""
    record = read_record()
    return record.seconds if record else 0.0
