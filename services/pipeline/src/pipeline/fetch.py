"""Stage 1: the next batch, unmodified, into raw/ and the ledger."""

from __future__ import annotations

from typing import Any

from core.errors import DataError
from core.features import FINGERPRINT
from core.ledger import Batch
from pipeline import data_api, rows
from pipeline.context import Context
from pipeline.outcome import SkipRun


def run(context: Context) -> dict[str, Any]:
    """Take up a batch that an earlier run left unfinished; if there is none, get the next one that is not stored.

    At the end of data with batches missing, the data API is restarted and drained again, once for each set of gaps.
    At the end of data with a champion of another release, whose features this one does not build, the batch that led to
    it is taken up again: predictors of this release have nothing to serve before there is a new model.

    Raises:
        SkipRun: the API has no more data, or hands out the same stored batch again and again.
        DataError: see `data_api.next_batch`.
        RegistryError: MLflow, asked at the end of data, is away.
    """
    ledger = context.ledger
    while unfinished := ledger.unfinished():
        if _stands(context, unfinished):
            summary = (
                f"batch {unfinished.batch_number} of an earlier run is {unfinished.state} only: it is taken up again"
            )
            return {"batch": unfinished.batch_number, "rows": unfinished.rows, "summary": summary}
    skipped: list[int] = []
    while answer := _next(context):
        batch, lost = _keep(context, answer)
        if batch:
            told = f"; batches {lost} never arrived" if lost else ""
            summary = f"batch {batch.batch_number}: {batch.rows:,} rows, {answer.size / 1e6:.1f} MB{told}"
            return {"batch": batch.batch_number, "rows": batch.rows, "sha256": batch.sha256[:12], "summary": summary}
        number = answer.content.batch_number
        told = f"batch {number} is stored already, with the same content: nothing is counted twice"
        if number in skipped[-1:]:
            raise SkipRun(f"{told}; the data API hands it out again and again", batch=number)
        print(told, flush=True)
        skipped.append(number)
    end = "the data API has no more data" + _missing(ledger.gaps())
    if again := _batch_of_outdated_champion(context):
        champion, batch = again
        summary = f"{end}; champion version {champion} is of an earlier release's features: it is trained anew"
        return {"batch": batch.batch_number, "rows": batch.rows, "summary": summary}
    raise SkipRun(end)


def _batch_of_outdated_champion(context: Context) -> tuple[str, Batch] | None:
    champion = context.registry.champion(context.settings.model_name, context.settings.model_alias)
    training = context.ledger.training(champion.run_id) if champion else None
    if champion is None or training is None or champion.tags.get("fingerprint", FINGERPRINT) == FINGERPRINT:
        return None
    return champion.version, context.ledger.batch(training["batch_number"])


def _missing(gaps: list[int]) -> str:
    return f"; batches {gaps} never arrived, not even when it was restarted and drained again" if gaps else ""


def _next(context: Context) -> data_api.Answer | None:
    """The next answer, from the beginning again if batches are missing at the end; None if that was done before."""
    known, ledger = context.settings, context.ledger
    service = known.data_api_url, known.data_api_group, known.data_api_day, known.data_api_timeout_seconds
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


def _keep(context: Context, answer: data_api.Answer) -> tuple[Batch | None, list[int]]:
    """Store what came, unless it is stored already; gives the batch if it is new, and the numbers that are missing."""
    content = answer.content
    key = rows.raw_key(content.batch_number, content.sha256)
    batch = context.ledger.receive(content.batch_number, content.sha256, content.raw.height, key)
    if batch.state != "received":
        return None, []
    rows.write(context.store, key, content.raw)
    lost = context.ledger.set_stored(batch)
    return (batch if _stands(context, batch) else None), lost


def _stands(context: Context, batch: Batch) -> bool:
    """Whether a batch is the content of its number; if another content stands, this one is quarantined."""
    standing = context.ledger.batch(batch.batch_number)
    if standing.sha256 == batch.sha256:
        return True
    context.ledger.refuse(
        batch, f"of the contents of batch {batch.batch_number}, {standing.sha256[:12]} of {standing.rows:,} rows stands"
    )
    return False
