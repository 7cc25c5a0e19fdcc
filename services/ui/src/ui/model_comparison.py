"""Two models side by side: the scores of their trainings, and the verdict that compared them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import pandas as pd
import streamlit as st

from ui.language import _, dollars, number, percent
from ui.predictor import Json, sentence
from ui.texts import marked
from ui.words import plain

# Measures of a split, in the order of the table: name and format.
MEASURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "mae": ("MAE", dollars),
    "rmse": ("RMSE", dollars),
    "mape": ("MAPE", percent),
    "r2": ("R²", partial(number, digits=3)),
    "coverage": (marked("In the interval"), percent),
    "width": (marked("Width of the interval"), dollars),
}


def evaluated(history: Json) -> dict[int, Json]:
    """The entry of the history for each registered version, oldest first."""
    entries = {int(each["version"]): each for each in history["batches"] if each["version"] and each["holdout_metrics"]}
    return dict(sorted(entries.items()))


def show(history: Json, served: str, mlflow_url: str) -> None:
    """Let the visitor choose two versions; at first the served one and the newest other one, the older one first."""
    st.header(_("Compare two models"))
    models = evaluated(history)
    if len(models) < 2:
        st.caption(_("A comparison needs two trained models."))
        return
    versions = list(models)
    one = int(served) if served.isdecimal() and int(served) in models else versions[-2]
    first, second = sorted((one, next(version for version in reversed(versions) if version != one)))
    columns = st.columns(2)
    chosen = [
        column.selectbox(label, versions, index=versions.index(version), key=key)
        for column, label, version, key in (
            (columns[0], _("First version"), first, "first version"),
            (columns[1], _("Second version"), second, "second version"),
        )
    ]
    for column, version in zip(columns, chosen, strict=True):
        with column:
            _describe(models[version], mlflow_url)
    if chosen[0] != chosen[1]:
        st.dataframe(pd.DataFrame(_rows(models, *chosen)), hide_index=True)
        st.caption(
            _(
                "Each model was scored on the splits of its own training, which has the batches of that time. Only the "
                "holdout of a verdict has the same rows for both."
            )
        )


def _describe(entry: Json, mlflow_url: str) -> None:
    """The training of a model, its verdict, and a link to its run."""
    promoted = _("promoted") if entry["promoted"] else _("rejected")
    badge = f":green-badge[{promoted}]" if entry["promoted"] else f":orange-badge[{promoted}]"
    training = _("**Training** on {rows} listings.", rows=entry["training_rows"])
    st.markdown(f"{badge} {training}")
    st.markdown(plain(sentence(entry["verdict"])))
    if mlflow_url:
        st.link_button(_("Run in MLflow"), f"{mlflow_url}/#/runs/{entry['run_id']}", icon=":material/open_in_new:")


def _rows(models: Mapping[int, Json], first: int, second: int) -> Iterator[Json]:
    """One row for each measure of each split that both models have, and of their common holdout, if there is one."""
    titles = [_("Version {number}", number=version) for version in (first, second)]
    for split, scores in _scores(models, first, second):
        for measure, (name, form) in MEASURES.items():
            values = [each[measure] for each in scores if measure in each]
            if len(values) == len(scores):
                shown = dict(zip(titles, map(form, values), strict=True))
                yield {_("Rows"): split, _("Measure"): _(name), **shown, _("Change"): _change(measure, *values)}


def _scores(models: Mapping[int, Json], first: int, second: int) -> Iterator[tuple[str, tuple[Json, Json]]]:
    """Name of the rows, and scores of both models on them."""
    for judged, champion in ((second, first), (first, second)):
        holdout = models[judged]["holdout_metrics"]
        if models[judged]["champion"] == str(champion) and holdout["champion"]:
            pair = {judged: holdout["challenger"], champion: holdout["champion"]}
            yield _("holdout of the verdict on version {number}", number=judged), (pair[first], pair[second])
    trained = [models[version]["training_metrics"] or {} for version in (first, second)]
    names = {"train": _("training split"), "validation": _("validation split"), "test": _("test split")}
    for split, name in names.items():
        if all(split in each for each in trained):
            yield name, (trained[0][split], trained[1][split])


def _change(measure: str, before: float, after: float) -> str:
    """Change from the first model to the second one: a share of the first value; for shares and R², the difference."""
    difference = after - before
    sign = "+" if difference > 0 else ""
    if measure == "r2":
        return f"{sign}{number(difference, 3)}"
    if measure == "coverage":
        return _("{change} points", change=f"{sign}{number(100 * difference, 1)}")
    return f"{sign}{percent(difference / before)}" if before else ""
