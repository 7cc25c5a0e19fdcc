"""The notices of errors, the same on every page."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from ui.language import translated
from ui.predictor import InvalidValuesError, PredictorError


def trouble(error: PredictorError) -> None:
    """Show what happened and what the user can do."""
    st.error(f"**{translated(error.happened)}** {translated(error.advice)}", icon=":material/error:")


def invalid(error: InvalidValuesError, titles: Mapping[str, str]) -> None:
    """Show the broken rule of each refused value under the title of its field."""
    trouble(error)
    for name, rule in error.fields.items():
        st.markdown(f"- **{translated(titles.get(name, name))}**: {translated(rule)}")
