"""Stage 1: get the next batch from the data API, and store it unmodified in `raw/` and the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NotRequired

from core.errors import BundleError, DataError, MissingModelError, RegistryError
from core.features.columns import FINGERPRINT
from core.ledger import Batch
from core.stores import layout
from pipeline import ownership, rows
from pipeline.context import Context
from pipeline.ingest import data_api
from pipeline.outcome import Outcome, SkipRun
from pipeline.patience import AWAY, Result


class FetchOutcome(Outcome):
    """The batch to continue with."""

    batch: int
    rows: int
    sha256: NotRequired[str]  # first twelve characters, of a new batch


def run(context: Context) -> FetchOutcome:
    """Continue with a batch that an earlier run left unfinished; without one, get the next batch that is not stored.

    Nothing is asked of the data API before object store and ledger have accepted a write, and an answer is kept in
    memory until both have stored it. So an outage costs a batch only if it is longer than `component_wait_seconds` or
    the pod is killed; such a batch is a gap in the ledger.

    If batches are missing at the end of the data, the data API is restarted and drained again, until one pass has
    stored every answer. If the champion at the end of the data has features of another release, the batch that led to
    it is used again, because predictors of this release cannot serve that champion. If MLflow has lost the champion,
    it gets it back.

    Raises:
        SkipRun: the API has no more data, or returns the same stored batch repeatedly.
        DataError: see `data_api.next_batch`; or batches are missing after a complete pass, in the first run that
            notices it.
        StorageError, LedgerAwayError: the batch cannot be stored.
        OwnershipError: ledger or object store belong to another platform.
        RegistryError: MLflow does not answer, at the end of the data, or before an unfinished training; or MLflow has
            lost the champion with its model.
    """
    if unfinished := _unfinished(context):
        return unfinished
    skipped: list[int] = []
    for answer in _answers(context):
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
    end = "the data API has no more data"
    if gaps := context.ledger.gaps():
        end += f"; batches {gaps} never arrived, not even when it was restarted and drained again"
        if not context.ledger.ended_before():
            raise DataError(
                f"{end}. Ask the operator of the data API for them. The following runs are not red: they take new "
                "batches, and these ones too if they come"
            )
    if again := _batch_of_outdated_champion(context):
        champion, batch = again
        summary = f"{end}; champion version {champion} has features of an earlier release, so it is trained again"
        return {"batch": batch.batch_number, "rows": batch.rows, "summary": summary}
    if restored := _restore_champion(context, end):
        end += f"; {restored}"
    raise SkipRun(end)


def _restore_champion(context: Context, end: str) -> str | None:
    if context.champion:
        return None
    from pipeline import lost_champion  # imports MLflow, which takes seconds and memory

    try:
        return lost_champion.restore(context)
    except (MissingModelError, BundleError) as lost:
        raise RegistryError(
            f"{end}. MLflow has no champion, and the last one cannot be restored: {lost}. Restore MLflow from a "
            "backup. If you do not, the next batch trains a new model, which becomes the champion without a comparison"
        ) from lost


def _unfinished(context: Context) -> FetchOutcome | None:
    """The result for a batch that an earlier run left without a decision, or without the training it decided on."""
    ledger = context.ledger
    while batch := ledger.unfinished():
        if _is_current(context, batch):
            summary = f"batch {batch.batch_number} of an earlier run is {batch.state} only: this run continues with it"
            return {"batch": batch.batch_number, "rows": batch.rows, "summary": summary}
    if batch := ledger.unjudged():
        _ = context.registry  # waits for MLflow, so that its outage does not use up the resumptions of this batch
        ledger.note_resumption(batch)
        summary = (
            f"batch {batch.batch_number} was to be trained, but an earlier run failed before its verdict: this run "
            "continues with it"
        )
        return {"batch": batch.batch_number, "rows": batch.rows, "summary": summary}
    return None


def _batch_of_outdated_champion(context: Context) -> tuple[str, Batch] | None:
    champion = context.champion
    training = context.ledger.training(champion.run_id) if champion else None
    if champion is None or training is None or champion.tags.get("fingerprint", FINGERPRINT) == FINGERPRINT:
        return None
    return champion.version, context.ledger.batch(training["batch_number"])


def _answers(context: Context) -> Iterator[data_api.BatchAnswer]:
    """Answers of the data API, up to the end of the data.

    If batches are missing at the end, the data API is restarted, at most once, and its answers follow again.
    """
    settings, ledger = context.settings, context.ledger
    service = settings.data_api_url, settings.data_api_group, settings.data_api_day
    limits = data_api.AnswerLimits(
        settings.data_api_timeout_seconds, settings.data_api_total_seconds, settings.data_api_max_bytes
    )
    restarted = False
    unasked = "Nothing was asked of the data API: the next run does that"
    with _outlook(unasked):
        context.patiently("check the owner of the object store", partial(ownership.check, context))
    while True:
        with _outlook(unasked):
            context.patiently("write to the object store", context.store.prove_writable)
            context.patiently("write to the ledger", ledger.note_call)
        try:
            answer = data_api.next_batch(*service, limits)
        except data_api.LostAnswer:
            ledger.note_lost()
            raise
        except DataError:
            ledger.note_refused()
            raise
        if answer:
            yield answer
            continue
        gaps = context.patiently("write to the ledger", ledger.note_end)
        if restarted or not gaps or not ledger.needs_restart():
            return
        print(f"batches {gaps} never arrived: the data API is restarted and drained again", flush=True)
        data_api.restart(*service, settings.data_api_timeout_seconds)
        context.patiently("write to the ledger", ledger.note_restart)
        restarted = True


def _store(context: Context, answer: data_api.BatchAnswer) -> tuple[Batch | None, list[int]]:
    """Store a batch, unless it is stored already. Returns the batch if it is new, and the numbers of new gaps.

    The answer cannot be had again, so each step waits for its component.
    """
    content, ledger = answer.content, context.ledger
    number = content.batch_number
    key = layout.raw_key(number, content.sha256)

    def patiently(action: Callable[[], Result]) -> Result:
        return context.patiently(f"store batch {number}", action)

    with _outlook(
        f"Batch {number} arrived and was not stored: repair the component. The next run that meets the end of the data "
        "restarts the data API and gets the batch again"
    ):
        batch = patiently(lambda: ledger.receive(number, content.sha256, content.raw.height, key))
        if batch.state != "received":
            return None, []
        patiently(lambda: rows.write(context.store, key, content.raw))
        lost = patiently(lambda: ledger.set_stored(batch))
        return (batch if patiently(lambda: _is_current(context, batch)) else None), lost


@contextmanager
def _outlook(sentence: str) -> Iterator[None]:
    """Add to the error of a component that is away what the next run will do."""
    try:
        yield
    except AWAY as error:
        raise type(error)(f"{error}. {sentence}") from error


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
