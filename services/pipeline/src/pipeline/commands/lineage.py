"""Show where a model version comes from: run, code, image, batches with their hashes, decision, verdict and report."""

from __future__ import annotations

from typing import Any

from pipeline.context import Context
from pipeline.tracking import REPORT, Tracking, contents


def run(context: Context, version: str) -> dict[str, Any]:
    """Collect the lineage of a registered version from MLflow and the ledger.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    tracking = Tracking(context.settings, context.registry)
    run_id = str(tracking.version(version).run_id)
    training = context.ledger.training(run_id) or {}
    tags = tracking.run(run_id).data.tags
    champion = context.registry.version_by_alias(context.settings.model_name, context.settings.model_alias)
    batches = {number: context.ledger.batch(number) for number in training.get("batches", [])}
    # The contents that the run was trained on. Another content may have replaced one of them since.
    used = contents(tags) or {number: batch.sha256 for number, batch in batches.items()}
    clean = {batch.sha256: batch.valid for batch in batches.values()}
    cause = context.ledger.batch(training["batch_number"]) if training else None
    decision = context.ledger.decision(cause) if cause else None
    verdict = context.ledger.promotion(run_id)
    lineage: dict[str, Any] = {
        "model": context.settings.model_name,
        "version": version,
        "champion": bool(champion and champion.version == version),
        "run": run_id,
        "code": training.get("code_version") or tags.get("code_version"),
        "commit": tags.get("commit"),
        "image_digest": tags.get("image_digest"),
        "features": tags.get("fingerprint"),
        "bundle_sha256": tags.get("manifest_sha256"),
        "batches": [{"number": at, "sha256": sha256, "clean": clean.get(sha256)} for at, sha256 in used.items()],
        "decision": decision and {"batch": cause and cause.batch_number, "answer": decision[0], "reason": decision[1]},
        "verdict": verdict and {"promoted": verdict["promoted"], "reason": verdict["reason"]},
        "moves": [move for move in context.ledger.champions() if version in (move["version"], move["before"])],
        "report": tags.get("decision_run") or (cause and tracking.decision_run(str(cause.batch_number), cause.sha256)),
    }
    return lineage | {"summary": as_text(lineage)}


def as_text(lineage: dict[str, Any]) -> str:
    """The lineage as text, one line per fact."""
    decision, verdict = lineage["decision"] or {}, lineage["verdict"] or {}
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
