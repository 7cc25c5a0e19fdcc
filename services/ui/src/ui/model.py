"""The page `Model`: the served model, and the versions that the predictor refused."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from ui.notices import trouble
from ui.predictor import Predictor, PredictorError, sentence


def show(predictor: Predictor) -> None:
    """Show the served model, its state, and the refused versions."""
    st.title("The served model")
    try:
        served = predictor.model()
    except PredictorError as error:
        trouble(error)
        return
    columns = st.columns(3)
    columns[0].metric("Model", served["name"])
    columns[1].metric("Version", served["version"])
    columns[2].metric("State", "not confirmed" if served["stale"] else "champion")
    if served["stale"]:
        st.warning(f"The last good model is served. {sentence(served['problem'])}", icon=":material/warning:")
    loaded = datetime.fromisoformat(served["loaded_at"])
    st.table(
        {
            "Alias in the registry": served["alias"],
            "MLflow run": served["run_id"],
            "Loaded": f"{loaded:%Y-%m-%d %H:%M:%S} UTC",
            "Fingerprint of the features": served["fingerprint"],
        },
        border="horizontal",
    )
    st.header("Refused versions")
    if not served["refused"]:
        st.caption("None since this pod started. Versions that fail the checks are listed here with the reason.")
        return
    st.dataframe(
        served["refused"],
        hide_index=True,
        column_config={
            "version": "Version",
            "run_id": "MLflow run",
            "reason": st.column_config.TextColumn("Reason", width="large"),
            "refused_at": st.column_config.DatetimeColumn("Refused", format="YYYY-MM-DD HH:mm"),
        },
        column_order=("version", "reason", "run_id", "refused_at"),
    )
