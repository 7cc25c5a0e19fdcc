"""How every page says that something did not work."""

from __future__ import annotations

import streamlit as st

from ui.predictor import PredictorError


def trouble(error: PredictorError) -> None:
    """What happened, and what the reader can do."""
    st.error(f"**{error.happened}** {error.advice}", icon=":material/error:")
