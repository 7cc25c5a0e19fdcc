"""The policy: turns evidence into `train` or `skip`, with a sentence that gives the reason.

In this order: too few rows or states are a skip. No champion, a champion that cannot serve, a shift, values that the
champion has never seen, or a worse MAE than on its holdout are reasons to train. If there is none of these, a large
share of rows that no training has used is the last reason. Otherwise the batch is skipped, and its rows count in the
next training.
"""

from __future__ import annotations

import math

from core.ledger.decisions import Decision
from pipeline.decision import drift
from pipeline.decision.drift import Shift
from pipeline.decision.evidence import ChampionEvidence, Evidence
from pipeline.settings import PipelineSettings

_MAX_NAMED_REASONS = 3  # in the sentence; all of them are in the evidence


def decide(evidence: Evidence, settings: PipelineSettings) -> Decision:
    """Decide whether to train, with the reason."""
    outdated = evidence.champion is not None and evidence.champion.unusable is not None
    shortages = [] if outdated else _shortages(evidence, settings)  # a champion that cannot serve is replaced at once
    subject = _subject(evidence)
    later = "; its rows count in the next training"
    if shortages:
        return Decision("skip", f"{subject} has {' and '.join(shortages)}{later}")
    if evidence.champion is None:
        amount = f"{evidence.rows:,} clean rows from {len(evidence.states)} states"
        if evidence.pending == [evidence.batch]:
            return Decision("train", f"{subject} is the baseline: {amount}; there is no champion yet")
        return Decision("train", f"there is no champion yet, and {subject} has {amount}")
    reasons = _reasons(evidence, evidence.champion, settings)
    if not reasons:
        why = _why_skipped(evidence, evidence.champion)
        return Decision("skip", f"{subject} resembles the training data of the champion: {why}{later}")
    more = f"; and {len(reasons) - _MAX_NAMED_REASONS} more" if len(reasons) > _MAX_NAMED_REASONS else ""
    return Decision("train", f"{subject}: {'; '.join(reasons[:_MAX_NAMED_REASONS])}{more}")


def has_moved(shift: Shift, settings: PipelineSettings) -> bool:
    """Whether PSI or KS of a column is over its threshold."""
    return (shift.psi or 0) > settings.max_psi or (shift.ks or 0) > settings.max_ks


def _subject(evidence: Evidence) -> str:
    """Names the batch, and the earlier batches that are decided on together with it."""
    earlier = [str(number) for number in evidence.pending if number != evidence.batch]
    return f"batch {evidence.batch}" + (f" (with {', '.join(earlier)}, unused so far)" if earlier else "")


def _shortages(evidence: Evidence, settings: PipelineSettings) -> list[str]:
    """Why the rows are too few for a training: rows, states."""
    shortages, states = [], evidence.states
    if evidence.rows < settings.min_batch_rows:
        shortages.append(f"{evidence.rows:,} clean rows, fewer than {settings.min_batch_rows:,}")
    reference = evidence.champion.states if evidence.champion else 0
    fewest = max(settings.min_batch_states, math.ceil(settings.min_state_share * reference))
    if len(states) < fewest:
        name = f" ({states[0]})" if len(states) == 1 else ""
        shortages.append(f"rows from {len(states)} state{'s' * (len(states) != 1)}{name}, fewer than {fewest}")
    return shortages


def _reasons(evidence: Evidence, champion: ChampionEvidence, settings: PipelineSettings) -> list[str]:
    """Every reason to train, the strongest first."""
    reasons = []
    if champion.unusable:
        reasons.append(f"the champion, version {champion.version}, cannot serve: {champion.unusable}")
    strongest = sorted(evidence.shifts, key=lambda shift: -(shift.psi or 0))
    reasons += [_describe_shift(shift, champion, settings) for shift in strongest if has_moved(shift, settings)]
    reasons += [
        f"{shift.unseen:.0%} of its rows are of a {shift.column.replace('_', ' ')} that the champion has never seen"
        for shift in evidence.shifts
        if shift.unseen is not None and shift.unseen > settings.max_unseen and not has_moved(shift, settings)
    ]
    rise = _rise(champion.mae, champion)
    if rise is not None and rise > settings.max_mae_rise:
        reasons.append(
            f"the champion's MAE on it, ${champion.mae:,.0f}, is {_compared(rise)} (over {settings.max_mae_rise:.0%})"
        )
    share = evidence.rows / (evidence.rows + champion.rows)
    if not reasons and share > settings.max_unused_share:
        reasons.append(
            f"nothing moved, but its {evidence.rows:,} rows are {share:.0%} of all "
            f"(over {settings.max_unused_share:.0%})"
        )
    return reasons


def _describe_shift(shift: Shift, champion: ChampionEvidence, settings: PipelineSettings) -> str:
    by_psi = (shift.psi or 0) > settings.max_psi
    figure = (
        f"PSI {shift.psi:.1f} over {settings.max_psi:g}" if by_psi else f"KS {shift.ks:.2f} over {settings.max_ks:g}"
    )
    grown = shift.grown
    before, now = (sum(shift.shares[name][at] for name in grown) for at in (0, 1))
    change = "are new to the champion" if shift.is_new else f"went from {before:.0%} to {now:.0%} of rows"
    rise = _rise(champion.mae_on(shift.column, grown), champion)
    if rise is None:
        error = ""
    elif shift.is_new:
        error = f", whose MAE on them is {_compared(rise)}"
    else:
        error = f", and the champion's MAE on them is {_compared(rise)}"
    return f"{shift.column} moved ({figure}): {drift.describe(shift.column, grown)} {change}{error}"


def _rise(mae: float | None, champion: ChampionEvidence) -> float | None:
    """Increase of an MAE over the champion's MAE on its holdout, as a fraction."""
    return mae / champion.holdout_mae - 1 if mae is not None and champion.holdout_mae else None


def _compared(rise: float) -> str:
    if rise >= 1:
        return f"{rise + 1:.1f} times that on its holdout"
    return f"{abs(rise):.0%} {'worse' if rise > 0 else 'better'} than on its holdout"


def _why_skipped(evidence: Evidence, champion: ChampionEvidence) -> str:
    """Explains a skip: the largest PSI and the change of the MAE."""
    largest = max(evidence.shifts, key=lambda shift: shift.psi or 0)
    rise = _rise(champion.mae, champion)
    error = "" if rise is None else f", and the champion's MAE on it, ${champion.mae:,.0f}, is {_compared(rise)}"
    return f"the largest PSI is {largest.psi:.2f} ({largest.column}){error}"
