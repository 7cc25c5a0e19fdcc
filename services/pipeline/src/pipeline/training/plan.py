"""Chooses the batches to train on, by the setting `training_mode`, and the model to continue from."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from core.errors import BundleError
from core.model.bundle import load_bundle
from pipeline.context import Context
from pipeline.tracking import Tracking


@dataclass(frozen=True)
class Plan:
    """The batches whose rows the trees are trained on, and the text of the model whose trees come first."""

    batches: list[int]
    mode: str  # logged as the run's parameter `mode`
    start: str | None = None


def make_plan(context: Context, tracking: Tracking, batches: list[int]) -> Plan:
    """Plan a training on these batches.

    Mode `continue` becomes `full` if there is no champion, if the champion cannot be continued or is not the bundle
    that the ledger names, or if no batch is new to it.
    """
    mode = context.settings.training_mode
    if mode == "window":
        return Plan(batches[-context.settings.training_window :], mode)
    champion = context.champion
    if mode == "full" or champion is None:
        return Plan(batches, "full")
    used = {int(number) for number in tracking.run(champion.run_id).data.tags["batches"].split(",")}
    new = [number for number in batches if number not in used]
    try:
        with tempfile.TemporaryDirectory() as folder:
            context.registry.download(champion, Path(folder))
            bundle = load_bundle(Path(folder))  # fails unless it is whole and has the features of this release
            if not context.ledger.is_champion(champion.version, bundle.manifest_sha256):
                return Plan(batches, "full")  # foreign trees must not get into a model of this pipeline
            start = (Path(folder) / "model.txt").read_text()
    except BundleError:
        return Plan(batches, "full")
    return Plan(new, f"continue of version {champion.version}", start) if new else Plan(batches, "full")
