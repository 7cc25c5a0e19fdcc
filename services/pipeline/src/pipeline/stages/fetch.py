"""Stage 1: get the next batch from the data API, and store it unmodified in `raw/` and the ledger."""

from __future__ import annotations

from typing import Any

from core.errors import DataError
from core.features.columns import FINGERPRINT
from core.ledger import Batch
from core.stores import layout
from pipeline import rows
from pipeline.context import Context
from pipeline.ingest import data_api
from pipeline.outcome import SkipRun


def run(context: Context) -> dict[str, Any]:
    """Continue with a batch that an earlier run left unfinished; without one, get the next batch that is not stored.

    If batches are missing at the end of the data, the data API is restarted and drained again, once for each set of
    gaps. If the champion at the end of the data has features of another release, the batch that led to it is used
    again, because predictors of this release cannot serve that champion.

    Raises:
        SkipRun: the API has no more data, or returns the same stored batch repeatedly.
        DataError: see `data_api.next_batch`.
        RegistryError: MLflow does not answer, at the end of the data.
    """
    ledger = context.ledger
    while unfinished := ledger.unfinished():
        if _is_current(context, unfinished):
            number, state = unfinished.batch_number, unfinished.state
            summary = f"batch {number} of an earlier run is {state} only: this run continues with it"
            return {"batch": number, "rows": unfinished.rows, "summary": summary}
    skipped: list[int] = []
    while answer := _next_answer(context):
        batch, lost = _store(context, answer)
        if batch:
            missing = f"; batches {lost} never arrived" if lost else ""
            summary = f"batch {batch.batch_number}: {batch.rows:,} rows, {answer.size / 1e6:.1f} MB{missing}"
            return {"batch": batch.batch_number, "rows": batch.rows, "sha256": batch.sha256[:12], "summary": summary}
        number = answer.content.batch_number
        message = f"batch {number} is stored already, with the same content: nothing is counted twice"
        if number in skipped[-1:]:
            raise SkipRun(f"{message}; the data API returns it repeatedly", batch=number)
        print(message, flush=True)
        skipped.append(number)
    end = "the data API has no more data" + _missing(ledger.gaps())
    if again := _batch_of_outdated_champion(context):
        champion, batch = again
        summary = f"{end}; champion version {champion} has features of an earlier release, so it is trained again"
        return {"batch": batch.batch_number, "rows": batch.rows, "summary": summary}
    raise SkipRun(end)


def _batch_of_outdated_champion(context: Context) -> tuple[str, Batch] | None:
    champion = context.registry.version_by_alias(context.settings.model_name, context.settings.model_alias)
    training = context.ledger.training(champion.run_id) if champion else None
    if champion is None or training is None or champion.tags.get("fingerprint", FINGERPRINT) == FINGERPRINT:
        return None
    return champion.version, context.ledger.batch(training["batch_number"])


def _missing(gaps: list[int]) -> str:
    return f"; batches {gaps} never arrived, not even when it was restarted and drained again" if gaps else ""


def _next_answer(context: Context) -> data_api.BatchAnswer | None:
    """The next answer of the data API; None at the end of the data.

    If batches are missing at the end, the data API is restarted first, unless that was done for these gaps before.
    """
    settings, ledger = context.settings, context.ledger
    service = (
        settings.data_api_url,
        settings.data_api_group,
        settings.data_api_day,
        settings.data_api_timeout_seconds,
    )
    while True:
        ledger.note_call()
        try:
            answer = data_api.next_batch(*service)
        except data_api.LostAnswer:
            ledger.note_lost()
            raise
        except DataError:
            ledger.note_refused()
            raise
        if answer:
            return answer
        gaps = ledger.note_end()
        if not gaps or not ledger.begin_recovery(gaps):
            return None
        print(f"batches {gaps} never arrived: the data API is restarted and drained again", flush=True)
        data_api.restart(*service)
        ledger.note_restart(gaps)


def _store(context: Context, answer: data_api.BatchAnswer) -> tuple[Batch | None, list[int]]:
    """Store a batch, unless it is stored already. Returns the batch if it is new, and the numbers of new gaps."""
    content = answer.content
    key = layout.raw_key(content.batch_number, content.sha256)
    batch = context.ledger.receive(content.batch_number, content.sha256, content.raw.height, key)
    if batch.state != "received":
        return None, []
    rows.write(context.store, key, content.raw)
    lost = context.ledger.set_stored(batch)
    return (batch if _is_current(context, batch) else None), lost


def _is_current(context: Context, batch: Batch) -> bool:
    """Whether this content is the one that is used for its number. If not, it is quarantined."""
    current = context.ledger.batch(batch.batch_number)
    if current.sha256 == batch.sha256:
        return True
    context.ledger.refuse(
        batch,
        f"batch {batch.batch_number} has several contents; {current.sha256[:12]} with {current.rows:,} rows is used",
    )
    return False
