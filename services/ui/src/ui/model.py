"""The page `Model`: the served model, and the versions that the predictor refused."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from ui.language import _, translated
from ui.notices import trouble
from ui.predictor import Predictor, PredictorError, sentence


def show(predictor: Predictor) -> None:
    """Show the served model, its state, and the refused versions."""
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
    st.header(_("Refused versions"))
    if not served["refused"]:
        st.caption(_("None since this pod started. Versions that fail the checks are listed here with the reason."))
        return
    st.dataframe(
        served["refused"],
        hide_index=True,
        column_config={
            "version": _("Version"),
            "run_id": _("MLflow run"),
            "reason": st.column_config.TextColumn(_("Reason"), width="large"),
            "refused_at": st.column_config.DatetimeColumn(_("Refused"), format="YYYY-MM-DD HH:mm"),
        },
        column_order=("version", "reason", "run_id", "refused_at"),
    )
