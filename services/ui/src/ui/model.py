"""The page `Model`: the served model, refused versions, a comparison of two models, and actions in Airflow."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from ui import model_comparison
from ui.language import _, translated
from ui.notices import trouble
from ui.predictor import Json, Predictor, PredictorError, sentence

PIPELINE, ROLLBACK = "house_price_pipeline", "house_price_rollback"  # DAGs


def show(predictor: Predictor, mlflow_url: str = "", airflow_url: str = "") -> None:
    """Show the served model, its state, the refused versions, two models side by side, and links to actions."""
    st.title(_("The served model"))
    try:
        served = predictor.model()
    except PredictorError as error:
        trouble(error)
        return
    columns = st.columns(3)
    columns[0].metric(_("Model"), served["name"])
    columns[1].metric(_("Version"), served["version"])
    columns[2].metric(_("State"), _("not confirmed") if served["stale"] else _("champion"))
    if served["stale"]:
        problem = translated(sentence(served["problem"]))
        st.warning(f"{_('The last good model is served.')} {problem}", icon=":material/warning:")
    loaded = datetime.fromisoformat(served["loaded_at"])
    st.table(
        {
            _("Alias in the registry"): served["alias"],
            _("MLflow run"): served["run_id"],
            _("Loaded"): f"{loaded:%Y-%m-%d %H:%M:%S} UTC",
            _("Fingerprint of the features"): served["fingerprint"],
        },
        border="horizontal",
    )
    _refused(served["refused"])
    try:
        model_comparison.show(predictor.history(), served["version"], mlflow_url)
    except PredictorError as error:
        trouble(error)
    if airflow_url:
        _actions(airflow_url)


def _actions(airflow_url: str) -> None:
    """Link the DAGs that change something. Airflow asks for the role, and the ledger keeps who did it."""
    st.header(_("Actions"))
    st.caption(
        _(
            "They start in Airflow and need the role operator or admin. The ledger keeps who started them, and the "
            "page History shows the result with its reason."
        )
    )
    links = (
        (_("Run the pipeline"), PIPELINE, ":material/play_arrow:"),
        (_("Make an earlier version the champion"), ROLLBACK, ":material/undo:"),
    )
    for column, (label, dag, icon) in zip(st.columns(2), links, strict=True):
        column.link_button(label, f"{airflow_url}/dags/{dag}", icon=icon, width="stretch")


def _refused(refused: list[Json]) -> None:
    """Show the versions that the predictor refused."""
    st.header(_("Refused versions"))
    if not refused:
        st.caption(_("None since this pod started. Versions that fail the checks are listed here with the reason."))
        return
    st.dataframe(
        refused,
        hide_index=True,
        column_config={
            "version": _("Version"),
            "run_id": _("MLflow run"),
            "reason": st.column_config.TextColumn(_("Reason"), width="large"),
            "refused_at": st.column_config.DatetimeColumn(_("Refused"), format="YYYY-MM-DD HH:mm"),
        },
        column_order=("version", "reason", "run_id", "refused_at"),
    )
