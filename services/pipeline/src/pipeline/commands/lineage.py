"""Show where a model version comes from: run, code, image, batches with their hashes, decision, verdict and report."""

from __future__ import annotations

from typing import Literal, TypedDict

from core.ledger.history import ChampionRow
from pipeline.context import Context
from pipeline.outcome import Outcome
from pipeline.tracking import REPORT, Tracking, contents


class LineageBatch(TypedDict):
    """A batch that the model was trained on."""

    number: int
    sha256: str
    clean: int | None  # clean rows; None if another content has replaced this one since


class LineageDecision(TypedDict):
    """The decision to train."""

    batch: int
    answer: Literal["train", "skip"]
    reason: str


class LineageVerdict(TypedDict):
    """The verdict of the gate."""

    promoted: bool
    reason: str


class Lineage(TypedDict):
    """Where a model version comes from. A fact is None if nothing has recorded it."""

    model: str
    version: str
    champion: bool  # whether it is the champion now
    run: str  # MLflow run
    code: str | None
    commit: str | None
    image_digest: str | None
    features: str | None  # fingerprint
    bundle_sha256: str | None  # of the manifest
    batches: list[LineageBatch]
    decision: LineageDecision | None
    verdict: LineageVerdict | None
    moves: list[ChampionRow]  # of the champion's alias, to or from this version
    report: str | None  # MLflow run with the report


class LineageOutcome(Lineage, Outcome):
    """The lineage as text, too."""


def run(context: Context, version: str) -> LineageOutcome:
    """Collect the lineage of a registered version from MLflow and the ledger.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    tracking = Tracking(context.settings, context.registry)
    run_id = str(tracking.version(version).run_id)
    training = context.ledger.training(run_id)
    tags = tracking.run(run_id).data.tags
    champion = context.registry.version_by_alias(context.settings.model_name, context.settings.model_alias)
    batches = {number: context.ledger.batch(number) for number in (training["batches"] if training else [])}
    # The contents that the run was trained on. Another content may have replaced one of them since.
    used = contents(tags) or {number: batch.sha256 for number, batch in batches.items()}
    clean = {batch.sha256: batch.valid for batch in batches.values()}
    cause = context.ledger.batch(training["batch_number"]) if training else None
    decision = context.ledger.decision(cause) if cause else None
    verdict = context.ledger.promotion(run_id)
    lineage: Lineage = {
        "model": context.settings.model_name,
        "version": version,
        "champion": bool(champion and champion.version == version),
        "run": run_id,
        "code": (training["code_version"] if training else None) or tags.get("code_version"),
        "commit": tags.get("commit"),
        "image_digest": tags.get("image_digest"),
        "features": tags.get("fingerprint"),
        "bundle_sha256": tags.get("manifest_sha256"),
        "batches": [{"number": at, "sha256": sha256, "clean": clean.get(sha256)} for at, sha256 in used.items()],
        "decision": {"batch": cause.batch_number, "answer": decision.answer, "reason": decision.reason}
        if cause and decision
        else None,
        "verdict": {"promoted": verdict["promoted"], "reason": verdict["reason"]} if verdict else None,
        "moves": [move for move in context.ledger.champions() if version in (move["version"], move["before"])],
        "report": tags.get("decision_run")
        or (tracking.decision_run(str(cause.batch_number), cause.sha256) if cause else None),
    }
    return {**lineage, "summary": as_text(lineage)}


def as_text(lineage: Lineage) -> str:
    """The lineage as text, one line per fact."""
    decision, verdict = lineage["decision"], lineage["verdict"]
    lines = {
        "model": f"{lineage['model']} version {lineage['version']}" + (", the champion" if lineage["champion"] else ""),
        "MLflow run": lineage["run"],
        "code": lineage["code"],
        "commit": lineage["commit"],
        "image": lineage["image_digest"],
        "features": lineage["features"],
        "bundle": lineage["bundle_sha256"],
        "decision": decision and f"batch {decision['batch']}: {decision['answer']}: {decision['reason']}",
        "verdict": verdict and f"{'promoted' if verdict['promoted'] else 'rejected'}: {verdict['reason']}",
        "report": lineage["report"] and f"{REPORT} of MLflow run {lineage['report']}",
    }
    rows = [f"{name:<11} {text or 'unknown'}" for name, text in lines.items()]
    rows += [f"{'batch':<11} {each['number']} {each['sha256']} ({_rows(each['clean'])})" for each in lineage["batches"]]
    rows += [f"{'alias':<11} {move['at']} {move['kind']} of version {move['version']}: {move['reason']}"
             for move in lineage["moves"]]  # fmt: skip
    return "\n".join(rows)


def _rows(clean: int | None) -> str:
    return "replaced by another content since" if clean is None else f"{clean:,} clean rows"
