"""The language of the pages: texts from catalogues, and numbers in the format of the language.

The texts in the code are English. `locales/<language>.po` has their translations, in the format of gettext. The
language is that of the browser, until the visitor chooses another one, which the address keeps (`?lang=es`).
"""

from __future__ import annotations

import gettext
import io
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, get_decimal_symbol, get_group_symbol

from ui.texts import Text

LANGUAGES = {"en": "English", "es": "Español"}  # the first one is that of the texts in the code
PARAMETER = "lang"  # of the address
_KEY = "language"  # in the session's state
_DOLLARS = {"en": "$#,##0", "es": "#,##0\u00a0$"}
_LOCALES = Path(__file__).with_name("locales")


def choose() -> None:
    """Show the choice of a language. The address keeps it, so that a link to the page has it, too."""
    st.session_state.setdefault(_KEY, language())
    chosen = st.sidebar.selectbox(_("Language"), LANGUAGES, format_func=LANGUAGES.__getitem__, key=_KEY)
    if chosen == _of_browser():
        st.query_params.pop(PARAMETER, None)
    else:
        st.query_params[PARAMETER] = chosen
    # Screen readers take the pronunciation from this attribute. Its value is one of the keys of `LANGUAGES`.
    st.html(f"<script>document.documentElement.lang = '{chosen}'</script>", unsafe_allow_javascript=True)


def language() -> str:
    """The language of the page."""
    return _supported(st.session_state.get(_KEY)) or _supported(st.query_params.get(PARAMETER)) or _of_browser()


def _of_browser() -> str:
    return _supported(st.context.locale) or next(iter(LANGUAGES))


def _supported(wish: str | None) -> str | None:
    """The supported language of a locale such as `es-CO`; None if there is none."""
    name = (wish or "").partition("-")[0].lower()
    return name if name in LANGUAGES else None


def _(template: str, **values: object) -> str:
    """A text of the page. Numbers among the values get the format of the language."""
    text = _catalogue(language()).gettext(template)
    return text.format(**{name: _shown(value) for name, value in values.items()}) if values else text


def plural(one: str, many: str, count: int, **values: object) -> str:
    """A text of the page that depends on a number, which it can have as `{count}`."""
    text = _catalogue(language()).ngettext(one, many, count)
    return text.format(count=_shown(count), **{name: _shown(value) for name, value in values.items()})


def translated(text: str) -> str:
    """A text of another module: a `Text`, or a text that the predictor sends. Unknown texts stay as they are."""
    return _(text.template, **text.values) if isinstance(text, Text) else _(text)


def number(value: float, digits: int = 0) -> str:
    """A number with this many digits after the decimal mark."""
    return format_decimal(value, f"#,##0.{'0' * digits}" if digits else "#,##0", locale=language())


def dollars(amount: float) -> str:
    """An amount of US dollars without cents. In Markdown, use `plain` on it."""
    return format_decimal(amount, _DOLLARS[language()], locale=language())


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage."""
    return f"{number(100 * share, digits)} %"


def chart_locale() -> dict[str, Any]:
    """How charts write numbers, in the format of D3. They show amounts in dollars."""
    name = language()
    before, after = _DOLLARS[name].split("#,##0")
    return {
        "decimal": get_decimal_symbol(name),
        "thousands": get_group_symbol(name),
        "grouping": [3],
        "currency": [before, after],
    }


def _shown(value: object) -> object:
    if isinstance(value, Text):
        return translated(value)
    return number(value) if isinstance(value, int) else value


@cache
def _catalogue(name: str) -> gettext.NullTranslations:
    """The translations of a language. Plain gettext reads a compiled file only, which is made here in memory."""
    source = _LOCALES / f"{name}.po"
    if not source.exists():
        return gettext.NullTranslations()  # the language of the texts in the code
    with source.open("rb") as file:
        catalogue = read_po(file, locale=name, abort_invalid=True)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
