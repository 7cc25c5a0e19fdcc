"""The notice of an error, the same on every page."""

from __future__ import annotations

import streamlit as st

from ui.predictor import PredictorError


def trouble(error: PredictorError) -> None:
    """Show what happened and what the user can do."""
    st.error(f"**{error.happened}** {error.advice}", icon=":material/error:")
