"""The model card: training data, errors, prediction intervals, limits, and feature importance of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import polars as pl

from core.features.columns import FEATURES, FINGERPRINT
from core.ledger import Batch
from core.model.estimates import Estimates
from core.model.intervals import LEVEL
from pipeline.evaluation.scores import interval_segments, segments
from pipeline.reports import html, shap_plot
from pipeline.tracking import MODEL_CARD


@dataclass(frozen=True)
class Facts:
    """Content of a model card."""

    data: list[Batch]  # the batches of the training
    reason: str
    code_version: str
    parameters: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]]  # per split
    gain: list[float]  # per feature
    test: pl.DataFrame
    estimates: Estimates  # of the test rows
    matrix: np.ndarray  # feature matrix of some test rows
    contributions: np.ndarray  # SHAP values of those rows, of the logarithm of the price, (rows, len(FEATURES))
    without: Mapping[str, Mapping[str, float]]  # scores of test rows without some fields


class FeatureImportance(TypedDict):
    """Importance of one feature."""

    gain: float  # share of the gain of all features
    shap: float  # mean absolute SHAP value, of the logarithm of the price


def summary(facts: Facts) -> dict[str, FeatureImportance]:
    """Importance per feature, the most important first."""
    total = sum(facts.gain) or 1.0
    shap = np.abs(facts.contributions).mean(axis=0)
    return {
        name: {"gain": facts.gain[at] / total, "shap": float(shap[at])}
        for at, name in sorted(enumerate(FEATURES), key=lambda pair: -shap[pair[0]])
    }


def texts(facts: Facts) -> dict[str, str]:
    """The card, and its plot as a separate image, by file name."""
    return {MODEL_CARD: page(facts), "shap_summary.svg": plot(facts)}


def page(facts: Facts) -> str:
    """The card as HTML."""
    test, numbers = facts.scores["test"], ", ".join(str(batch.batch_number) for batch in facts.data)
    intervals = interval_segments(facts.test, facts.estimates)
    made = {"reason": facts.reason, "code version": facts.code_version, "features": FINGERPRINT, **facts.parameters}
    return html.render(
        "model_card.html.j2",
        title="House price model",
        summary=(
            f"Trained on {facts.parameters['train_rows']:,} rows of batches {numbers}; on the "
            f"{facts.test.height:,} test rows its mean absolute error is ${test['mae']:,.0f} (R2 {test['r2']:.3f})"
        ),
        facts=facts,
        limits=limits(facts),
        level=LEVEL,
        segments=segments(facts.test, facts.estimates.prices),
        intervals={"all": {"rows": facts.test.height, **test}} | intervals if intervals else {},
        importance=summary(facts),
        made=made,
        plot=_plot(facts),
    )


def plot(facts: Facts) -> str:
    """Summary of SHAP values as SVG, see `shap_plot.lay_out`."""
    return html.render("shap_summary.svg.j2", plot=_plot(facts))


def _plot(facts: Facts) -> shap_plot.Plot:
    return shap_plot.lay_out(list(summary(facts)), facts.matrix, facts.contributions)


def limits(facts: Facts) -> list[str]:
    """Limits of the model, for readers of the card."""
    price = facts.test["price"].to_numpy()
    low, high = np.quantile(price, [0.01, 0.99])
    parts = segments(facts.test, facts.estimates.prices)
    worst = max(parts, key=lambda name: parts[name]["mape"], default=None)
    sentences = [
        f"98 % of the test prices are between ${low:,.0f} and ${high:,.0f}. Beyond them it extrapolates.",
        "It uses the advertised fields only. It knows nothing about condition, view or interior.",
        "Ages of the last sale count from 2023. If the market has moved since, train again.",
        "For an unseen zip code, city or broker it uses the value of the city, the state or an average broker.",
        f"The prediction intervals contain {LEVEL:.0%} of the prices only for houses like those in its data.",
    ]
    if worst:
        sentences.insert(0, f"Its relative error is largest for {worst}: {parts[worst]['mape']:.1%} on average.")
    missing = [name for name in ("status", "state") if facts.test[name].null_count() == facts.test.height]
    if missing:
        sentences.append(f"It was trained without {', '.join(missing)}.")
    return sentences
