"""The card of a model: what it was made of, how far it can be trusted, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import polars as pl

from core.bundle import Estimates
from core.features import FEATURES, FINGERPRINT
from core.ledger import Batch
from core.ranges import LEVEL
from pipeline.pages import document, section, table
from pipeline.scores import range_segments, segments

_USE = (
    "Asking prices and past sale prices of houses in the United States, for orientation: to sort listings, to find "
    "ones that are priced unlike their neighbours, to fill in a form."
)
_NOT_FOR = (
    "It is no appraisal. Decisions on loans, insurance, taxes or rents need a person and other data; the place is "
    "the largest part of a price, and with it goes whatever else differs between places."
)
CARD = "model_card.html"
_POINTS = 300  # of the plot, per feature
_SHOWN = 12  # features in the plot
_ROW, _LEFT, _WIDTH, _RIGHT = 30, 150, 560, 20  # pixels


@dataclass(frozen=True)
class Facts:
    """What a card tells."""

    data: list[Batch]  # whose clean rows it has seen
    reason: str
    code_version: str
    parameters: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]]  # by split
    gain: list[float]  # by feature
    test: pl.DataFrame
    estimates: Estimates  # of the test rows
    matrix: np.ndarray  # of some test rows
    contributions: np.ndarray  # to the logarithm of their prices, (rows, len(FEATURES))
    without: Mapping[str, Mapping[str, float]]  # scores of test rows without some fields


def summary(facts: Facts) -> dict[str, dict[str, float]]:
    """By feature: share of the loss that it lowered, and mean absolute contribution to the logarithm of a price."""
    whole = sum(facts.gain) or 1.0
    shap = np.abs(facts.contributions).mean(axis=0)
    return {
        name: {"gain": facts.gain[at] / whole, "shap": float(shap[at])}
        for at, name in sorted(enumerate(FEATURES), key=lambda pair: -shap[pair[0]])
    }


def texts(facts: Facts) -> dict[str, str]:
    """The card, and its plot as an image of its own, by the names of their files."""
    return {CARD: page(facts), "shap_summary.svg": plot(facts)}


def page(facts: Facts) -> str:
    """The card as HTML."""
    test, numbers = facts.scores["test"], ", ".join(str(one.batch_number) for one in facts.data)
    lead = (
        f"Trained on {facts.parameters['train_rows']:,} rows of batches {numbers}; on the "
        f"{facts.test.height:,} test rows it is wrong by ${test['mae']:,.0f} on average (R2 {test['r2']:.3f})"
    )
    made = [["why", facts.reason], ["code", facts.code_version], ["features", FINGERPRINT]]
    made += [[name, f"{value}"] for name, value in facts.parameters.items()]
    splits = [[name, *_figures(part)] for name, part in facts.scores.items()]
    parts = [
        [name, f"{part['rows']:,}", *_figures(part)]
        for name, part in segments(facts.test, facts.estimates.prices).items()
    ]
    known = [[name, f"{part['gain']:.1%}", f"{part['shap']:.4f}"] for name, part in summary(facts).items()]
    error = ["MAE", "RMSE", "R2", "MAPE"]
    return document(
        "House price model",
        lead,
        [
            section("Intended use", f"<p>{escape(_USE)}</p><p>{escape(_NOT_FOR)}</p>"),
            section("Limits", "<ul>" + "".join(f"<li>{escape(limit)}</li>" for limit in limits(facts)) + "</ul>"),
            section("Data", *_data(facts)),
            section("Errors per split", table(["split", *error], splits)),
            section("Errors per segment of the test rows", table(["segment", "rows", *error], parts)),
            section("Ranges per segment of the test rows", *_ranges(facts)),
            section("Test rows without some fields", *_without(facts)),
            section(
                "What a price depends on",
                "<p>Share of the loss that a feature lowered in training, and the mean size of its contribution to the "
                "logarithm of a price (SHAP values of test rows): 0.1 is 10 %.</p>",
                table(["feature", "gain", "contribution"], known),
                plot(facts),
            ),
            section("How it was made", table(["what", "value"], made)),
        ],
    )


def _data(facts: Facts) -> list[str]:
    lines = [
        [str(one.batch_number), *(f"{count or 0:,}" for count in counts), one.sha256]
        for one in facts.data
        for counts in [(one.rows, one.valid, one.quarantined, one.duplicates)]
    ]
    what = "<p>Clean rows are split 70/15/15 into train, validation and test, each listing always into the same.</p>"
    return [what, table(["batch", "received", "clean", "quarantined", "duplicates", "hash of its content"], lines)]


def _ranges(facts: Facts) -> list[str]:
    parts = range_segments(facts.test, facts.estimates)
    if not parts:
        return ["<p>There are none: the validation rows are too few to measure them on.</p>"]
    whole = {"all": {"rows": facts.test.height, **facts.scores["test"]}}
    told = [[name, f"{part['rows']:,}", *_range(part)] for name, part in (whole | parts).items()]
    what = (
        f"<p>The ranges were measured on the validation rows, to hold {LEVEL:.0%} of the prices; these are the test "
        "rows. An estimate is the price that the model gives.</p>"
    )
    return [what, table(["segment", "rows", "within the range", "mean width"], told)]


def _without(facts: Facts) -> list[str]:
    told = [
        [name, f"{part['rows']:,}", *_figures(part), *(_range(part) if "coverage" in part else ["", ""])]
        for name, part in facts.without.items()
    ]
    what = (
        "<p>As if their callers had left fields out. A city and a state that are not told follow from the "
        "zip code; what cannot be known makes the range wider.</p>"
    )
    return [what, table(["without", "rows", "MAE", "RMSE", "R2", "MAPE", "within the range", "mean width"], told)]


def _range(part: Mapping[str, float]) -> list[str]:
    return [f"{part['coverage']:.1%}", f"${part['width']:,.0f}"]


def _figures(part: Mapping[str, float]) -> list[str]:
    return [f"${part['mae']:,.0f}", f"${part['rmse']:,.0f}", f"{part['r2']:.3f}", f"{part['mape']:.1%}"]


def limits(facts: Facts) -> list[str]:
    """What the card's reader should know before a price is believed."""
    price = facts.test["price"].to_numpy()
    low, high = np.quantile(price, [0.01, 0.99])
    parts = segments(facts.test, facts.estimates.prices)
    worst = max(parts, key=lambda name: parts[name]["mape"], default=None)
    told = [
        f"98 % of the prices it knows lie between ${low:,.0f} and ${high:,.0f}; beyond them it guesses.",
        "It knows listings as they were advertised; condition, view and interior are unknown to it.",
        "Ages of the last sale count from 2023; a market that has moved since needs a new training.",
        "A zip code, city or broker that it has never seen is valued as the city, the state or an average one.",
        f"{LEVEL:.0%} of houses lie within their ranges as long as they are like those it has seen.",
    ]
    if worst:
        told.insert(0, f"Its relative error is largest for {worst}: {parts[worst]['mape']:.1%} on average.")
    missing = [name for name in ("status", "state") if facts.test[name].null_count() == facts.test.height]
    if missing:
        told.append(f"It was trained without {', '.join(missing)}.")
    return told


def plot(facts: Facts) -> str:
    """Summary of SHAP values as SVG: a point per row and feature, to the right where it raises the price.

    Points are red where the feature's value is large among the rows, blue where it is small, grey where it is unknown.
    """
    names = list(summary(facts))[:_SHOWN]
    rows = slice(0, len(facts.matrix), max(1, len(facts.matrix) // _POINTS))
    furthest = float(np.quantile(np.abs(facts.contributions[rows]), 0.995)) or 1.0
    middle, scale = _LEFT + _WIDTH / 2, _WIDTH / 2 / furthest
    height = _ROW * len(names) + 40
    parts = [f'<line x1="{middle}" x2="{middle}" y1="0" y2="{height - 34}" stroke="#b0b7c3"/>']
    for at, name in enumerate(names):
        column = FEATURES.index(name)
        y = _ROW * at + _ROW / 2
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        xs = middle + np.clip(facts.contributions[rows, column], -furthest, furthest) * scale
        for left, up, colour in zip(xs, _stacked(xs), _colours(facts.matrix[rows, column]), strict=True):
            parts.append(f'<circle cx="{left:.1f}" cy="{y + up:.1f}" r="2" fill="{colour}" fill-opacity="0.7"/>')
    for share in (-1.0, -0.5, 0.0, 0.5, 1.0):
        told = f"{np.expm1(share * furthest):+.0%}"
        parts.append(
            f'<text x="{middle + share * _WIDTH / 2:.0f}" y="{height - 18}" text-anchor="middle">{told}</text>'
        )
    parts.append(f'<text x="{middle:.0f}" y="{height - 3}" text-anchor="middle">change of the price</text>')
    width = _LEFT + _WIDTH + _RIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="system-ui, sans-serif" font-size="11" role="img" aria-label="SHAP values of test rows">'
        f"{''.join(parts)}</svg>"
    )


def _stacked(x: np.ndarray) -> np.ndarray:
    """How far each point stands from its line, so that those beside each other do not hide one another."""
    up = np.empty(len(x))
    taken: dict[int, int] = {}
    for at, place in enumerate(np.round(x / 4).astype(int).tolist()):
        count = taken[place] = taken.get(place, -1) + 1
        up[at] = min((count + 1) // 2, 6) * 2.0 * (-1 if count % 2 else 1)
    return up


def _colours(values: np.ndarray) -> list[str]:
    known = ~np.isnan(values)
    rank = np.zeros(len(values))
    rank[known] = np.searchsorted(np.sort(values[known]), values[known], side="left") / max(1, known.sum() - 1)
    low, high = np.array([47, 109, 181]), np.array([214, 57, 57])
    mixed = np.round(low + np.clip(rank, 0, 1)[:, None] * (high - low)).astype(int)
    return [f"#{r:02x}{g:02x}{b:02x}" if at else "#9aa5b1" for (r, g, b), at in zip(mixed, known, strict=True)]
