"""Tables with numbers in the format of the page's language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from ui.predictor import Json


def show(
    rows: list[Json], formats: Mapping[str, Callable[[Any], str]], columns: Mapping[str, Any] | None = None
) -> None:
    """Show a table that visitors can sort.

    Args:
        rows: the rows, with the titles of the columns.
        formats: for columns with numbers, how to write one. Columns without an entry are shown as they are.
        columns: other settings of columns, see `st.dataframe`.
    """
    frame = pd.DataFrame(rows)
    styled = frame.style.format(dict(formats), na_rep="")
    st.dataframe(styled, hide_index=True, column_config=columns)
