"""Texts and numbers of the pages in each language."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

import ui
from core.listing.schema import STATUSES
from predictor.errors import InvalidBodyError
from predictor.pricing.explanations import TITLES
from predictor.pricing.listing import ListingParser
from ui import language
from ui.language import LANGUAGES
from ui.texts import Text
from ui.words import readable, subject

FOLDER = Path(ui.__path__[0])
MODULES = sorted(FOLDER.glob("*.py"))
# The functions whose first argument is a text of the catalogues; `plural` has two.
MARKS = {"_": 1, "plural": 2, "marked": 1, "Text": 1, "TableFileError": 1}
# Words that the predictor sends, and states and decisions of the ledger.
SENT = {*TITLES.values(), *(name.replace("_", " ").capitalize() for name in STATUSES)} | {
    "received", "stored", "quarantined", "validated", "split", "used", "train", "skip",
}  # fmt: skip
# What the functions of Streamlit show: these arguments, and the first one or two without a name.
SHOWN = {"label", "help", "placeholder", "title", "text", "page_title", "body"}
# Rules of the predictor that a form can break. It has limits for numbers and dates of its own.
RULES = [({"zip_code": "many"}, "El código postal debe"), ({"prev_sold_date": "May"}, "El valor debe ser una fecha")]
PLACEHOLDER = re.compile(r"\{(\w+)\}")


def name(call: ast.Call) -> str:
    return ast.unparse(call.func)


def texts(call: ast.Call) -> Iterator[str]:
    for argument in call.args[: MARKS[name(call)]]:
        if isinstance(argument, ast.Constant):
            yield argument.value


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call):
                yield module, node


def catalogue(code: str) -> Catalog:
    with (FOLDER / "locales" / f"{code}.po").open("rb") as file:
        return read_po(file, locale=code, abort_invalid=True)


def messages(code: str) -> list[Message]:
    return [message for message in catalogue(code) if message.id]


def singular(text: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


TRANSLATED = [code for code in LANGUAGES if (FOLDER / "locales" / f"{code}.po").exists()]


def test_every_language_but_that_of_the_code_has_a_catalogue() -> None:
    assert list(LANGUAGES)[1:] == TRANSLATED


@pytest.mark.parametrize("code", TRANSLATED)
def test_catalogue_has_every_text_of_the_pages_and_no_other(code: str) -> None:
    rules = {rule(listing) for listing, _ in RULES}
    expected = SENT | rules | {text for _, call in calls() if name(call) in MARKS for text in texts(call)}
    present = {text for message in messages(code) for text in singular(message.id)}
    assert (expected - present, present - expected) == (set(), set()), "missing in the catalogue, and not used"


@pytest.mark.parametrize("code", TRANSLATED)
def test_texts_are_translated_with_the_same_values(code: str) -> None:
    for message in messages(code):
        values = {value for text in singular(message.id) for value in PLACEHOLDER.findall(text)}
        for text in singular(message.string):
            assert text, message.id
            assert not message.fuzzy, message.id
            assert set(PLACEHOLDER.findall(text)) == values, message.id
            assert text.count("`") == singular(message.id)[0].count("`"), message.id
            assert text.count("*") == singular(message.id)[0].count("*"), message.id


def shown(node: ast.expr) -> Iterator[str]:
    """Words of an expression that nothing translates."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value.replace("&nbsp;", "")
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield from shown(part)
    elif isinstance(node, ast.BinOp):
        yield from shown(node.left)
        yield from shown(node.right)
    elif isinstance(node, ast.IfExp):
        yield from shown(node.body)
        yield from shown(node.orelse)


ELEMENTS = {
    "title", "header", "subheader", "caption", "markdown", "write", "error", "warning", "info", "success", "metric",
    "button", "download_button", "form_submit_button", "file_uploader", "text_input", "number_input", "date_input",
    "selectbox", "slider", "expander", "progress", "spinner", "Page", "set_page_config", "toast", "text", "tabs",
    "NumberColumn", "TextColumn", "DatetimeColumn", "ProgressColumn",
}  # fmt: skip


def test_pages_show_no_text_that_is_not_in_the_catalogues() -> None:
    wrong = []
    for module, call in calls():
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in ELEMENTS:
            continue
        arguments = [*call.args[:2], *(each.value for each in call.keywords if each.arg in SHOWN)]
        words = [text for argument in arguments for text in shown(argument) if re.search(r"[^\W\d_]{2}", text)]
        wrong += [f"{module.name}:{call.lineno}: {text!r}" for text in words]
    assert wrong == []


def rule(listing: dict[str, str]) -> str:
    """The message of the predictor for a wrong value."""
    with pytest.raises(InvalidBodyError) as refusal:
        ListingParser(1).parse(json.dumps(listing).encode())
    return refusal.value.errors[0]["msg"]


@pytest.fixture
def spanish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "language", lambda: "es")


@pytest.mark.parametrize("code", LANGUAGES)
def test_numbers_are_written_as_people_write_them(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(language, "language", lambda: code)
    written = (language.dollars(31_000), language.number(1234.5, 1), language.percent(0.253), readable(1276.25))
    assert (
        written
        == {
            "en": ("$31,000", "1,234.5", "25.3 %", "1,276.25"),
            "es": ("31.000\u00a0$", "1.234,5", "25,3 %", "1.276,25"),
        }[code]
    )


@pytest.mark.usefixtures("spanish")
def test_text_of_another_module_is_translated_with_its_values() -> None:
    text = Text("The table has more than {limit} rows: split the file, or use the batch job.", limit=100_000)
    assert text == "The table has more than 100,000 rows: split the file, or use the batch job."
    assert language.translated(text).startswith("La tabla tiene más de 100.000 filas")
    assert language.translated("a reason of the ledger") == "a reason of the ledger"


@pytest.mark.usefixtures("spanish")
@pytest.mark.parametrize(("listing", "words"), RULES)
def test_rule_that_a_form_can_break_is_translated(listing: dict[str, str], words: str) -> None:
    assert language.translated(rule(listing)).startswith(words)


@pytest.mark.usefixtures("spanish")
def test_reason_is_a_sentence_about_the_field() -> None:
    contribution = {"feature": "house_size", "title": TITLES["house_size"], "value": 1276.0}
    assert subject(contribution) == r"La superficie habitable de **1\.276** pies cuadrados"
    assert subject(contribution | {"value": None}) == r"Superficie habitable \(pies cuadrados\) **desconocido**"
    assert subject({"feature": "street", "title": TITLES["street"], "value": 5.0}) == r"Calle \(id codificado\) **5**"


@pytest.mark.parametrize(("wish", "code"), [("es-CO", "es"), ("ES", "es"), ("en-GB", "en"), ("fr", None), (None, None)])
def test_language_of_a_locale(wish: str | None, code: str | None) -> None:
    assert language._supported(wish) == code
