"""Page: which model answers at present, and which versions were refused."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from ui.notices import trouble
from ui.predictor import Predictor, PredictorError, sentence


def show(predictor: Predictor) -> None:
    """What the predictor says about its model."""
    st.title("The model that answers")
    try:
        told = predictor.model()
    except PredictorError as error:
        trouble(error)
        return
    columns = st.columns(3)
    columns[0].metric("Model", told["name"])
    columns[1].metric("Version", told["version"])
    columns[2].metric("State", "not confirmed" if told["stale"] else "champion")
    if told["stale"]:
        st.warning(
            f"Prices are answered by the last good model. {sentence(told['problem'])}", icon=":material/warning:"
        )
    loaded = datetime.fromisoformat(told["loaded_at"])
    st.table(
        {
            "Alias in the registry": told["alias"],
            "MLflow run": told["run_id"],
            "Loaded": f"{loaded:%Y-%m-%d %H:%M:%S} UTC",
            "Fingerprint of the features": told["fingerprint"],
        },
        border="horizontal",
    )
    st.subheader("Refused versions")
    if not told["refused"]:
        st.caption("None since this pod started. A version that fails its checks is listed here with the reason.")
        return
    st.dataframe(
        told["refused"],
        hide_index=True,
        column_config={
            "version": "Version",
            "run_id": "MLflow run",
            "reason": st.column_config.TextColumn("Reason", width="large"),
            "refused_at": st.column_config.DatetimeColumn("Refused", format="YYYY-MM-DD HH:mm"),
        },
        column_order=("version", "reason", "run_id", "refused_at"),
    )
