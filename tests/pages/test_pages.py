"""The pages in a browser: visitors get what they ask for, everyone can use them, and nothing comes from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.kit.browser import TIMEOUT, Tab

from .conftest import Lose, Visit

MARKUP = "<img src='x' onerror='alert(1)'> <b>bold **bold** [link](javascript:alert(1)) $x$ :red[red]"
LONG_FILE_ROWS = 30_000  # take some seconds
PATHS = ("", "files", "history", "model", "operations")
expect.set_options(TIMEOUT)


@pytest.fixture(
    scope="module", params=["", "files", "history", "model", "operations"], ids=lambda path: path or "price"
)
def opened(browser: Browser, site: str, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """Every page, complete; the page *Price* with an estimate."""
    tab = Tab(browser, site)
    tab.open(request.param)
    if not request.param:
        tab.estimate()
    yield tab
    tab.page.context.close()


def test_page_is_shown_without_an_exception(opened: Tab) -> None:
    assert not opened.exceptions()
    assert not opened.errors


def test_page_loads_nothing_from_another_host(opened: Tab) -> None:
    assert not opened.others


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_the_page(opened: Tab, scheme: Literal["light", "dark"]) -> None:
    opened.use(scheme)
    assert not opened.findings()


@pytest.mark.parametrize("width", [1440, 390])
def test_page_needs_no_horizontal_scrolling(opened: Tab, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.settle()
    assert opened.hidden_width() == 0


def metric(tab: Tab, label: str) -> Locator:
    """The value of a figure of the page."""
    return tab.page.get_by_test_id("stMetric").filter(has_text=label).get_by_test_id("stMetricValue")


def field(tab: Tab, label: str) -> Locator:
    """The input with this label."""
    return tab.page.get_by_label(label, exact=True)


def test_price_is_shown_with_its_explanation(visit: Visit) -> None:
    tab = visit()
    tab.estimate()
    expect(metric(tab, "Estimated price")).to_contain_text("$")
    assert tab.page.get_by_test_id("stVegaLiteChart").count() >= 2  # the interval and the waterfall; a map with sales
    expect(tab.main.get_by_role("listitem").first).to_contain_text("$")


def test_similar_sales_are_shown_in_a_table_and_on_a_map(visit: Visit) -> None:
    tab = visit()
    tab.estimate()
    expect(tab.page.get_by_role("heading", name="Similar sales")).to_be_visible()
    if tab.page.get_by_text("The model knows no sale in this place").count():
        return  # a cluster whose batches have no sold listing in the place of the example
    section = tab.page.locator(".st-key-screen-only-sales")
    expect(section.get_by_test_id("stDataFrame")).to_be_visible()
    chart = section.get_by_test_id("stVegaLiteChart")
    expect(section.get_by_text("Each point is the centre of a ZIP code.")).to_contain_text("01001")
    expect(chart.locator(".mark-shape path").first).to_have_attribute(
        "d", re.compile("M.{100}")
    )  # the outline of a state
    expect(chart.locator(".role-mark.mark-symbol path")).not_to_have_count(0)
    expect(chart).to_contain_text("The house")
    assert not tab.errors
    assert not tab.others


def test_moved_slider_shows_the_price_of_the_changed_listing(visit: Visit) -> None:
    tab = visit()
    tab.estimate()
    price = metric(tab, "Estimated price").inner_text()
    slider = tab.page.get_by_role("slider", name="Living area (square feet)")
    slider.focus()
    for _ in range(20):
        slider.press("ArrowRight")
    expect(metric(tab, "Price with these values")).to_contain_text("$")
    assert metric(tab, "Price with these values").inner_text() != price
    assert metric(tab, "Estimated price").inner_text() == price


def test_true_price_is_stored(visit: Visit) -> None:
    tab = visit()
    tab.estimate()
    price = metric(tab, "Estimated price").inner_text().strip("$").replace(",", "")
    field(tab, "It sold for").fill(price)
    send = tab.page.get_by_role("button", name="Send the true price")
    success, away = tab.page.get_by_text("is stored for request"), tab.page.get_by_text("The ledger does not have")
    for _ in range(30):  # the estimate reaches the ledger some seconds after the answer
        send.click()
        success.or_(away).wait_for()
        tab.settle()
        if success.count():
            break
        tab.page.wait_for_timeout(500)
    expect(success).to_be_visible()


def test_value_that_the_predictor_refuses_is_named(visit: Visit) -> None:
    tab = visit()
    field(tab, "ZIP code").fill("many")
    tab.page.get_by_role("button", name="Estimate the price").click()
    expect(tab.page.get_by_role("alert")).to_contain_text("Some values are not valid.")
    expect(tab.main.get_by_role("listitem")).to_contain_text("ZIP code should be a number or five digits")
    assert not tab.findings()


def test_markup_in_a_city_name_is_shown_as_text(visit: Visit) -> None:
    """Also in the name of a column of an uploaded file, which the page repeats."""
    tab = visit()
    field(tab, "City").fill(MARKUP)
    tab.estimate()
    expect(field(tab, "City")).to_have_value(MARKUP)
    assert not markup(tab)
    tab.open("files")
    content = f'city,"{MARKUP}"\nAgawam,1\n'.encode()
    upload = {"name": f"{MARKUP}.csv", "mimeType": "text/csv", "buffer": content}
    tab.page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(upload)  # type: ignore[arg-type]
    tab.page.get_by_role("button", name="Estimate the prices").click()
    expect(tab.page.get_by_role("heading", name=MARKUP)).to_be_visible()
    expect(tab.page.get_by_text("Columns that stay in the result")).to_contain_text(MARKUP)
    assert not markup(tab)
    assert not tab.exceptions()


def test_file_is_priced_although_the_predictor_is_lost_in_the_middle(visit: Visit, lose_predictor: Lose) -> None:
    """All prices are there at the end: the page waits, or the visitor presses a button to continue."""
    tab = visit("files")
    content = "city,state,zip_code,bed,house_size\n" + "Agawam,Massachusetts,1001,3,1500\n" * LONG_FILE_ROWS
    upload = {"name": "long.csv", "mimeType": "text/csv", "buffer": content.encode()}
    tab.page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(upload)  # type: ignore[arg-type]
    tab.page.get_by_role("button", name="Estimate the prices").click()
    expect(tab.page.get_by_text(re.compile(rf"[1-9],000 of {LONG_FILE_ROWS:,} rows"))).to_be_visible()
    lose_predictor()
    finished = metric(tab, "Rows with a price")
    button = tab.page.get_by_role("button", name="Continue")
    for _ in range(10):
        finished.or_(button).first.wait_for()
        tab.settle()
        if finished.count():
            break
        expect(tab.page.get_by_text("rows are finished, and their prices are kept")).to_be_visible()
        tab.page.wait_for_timeout(5_000)
        button.click()
        button.wait_for(state="detached")
    expect(finished).to_have_text(f"{LONG_FILE_ROWS:,}")
    assert not tab.exceptions()


def markup(tab: Tab) -> list[str]:
    """Elements that exist only if the page takes `MARKUP` for more than text."""
    return [kind for kind in ("img[src='x']", "b", 'a[href^="javascript"]', ".katex") if tab.page.locator(kind).count()]


def test_page_is_in_the_language_of_the_browser_until_the_visitor_chooses(visit: Visit) -> None:
    tab = visit(locale="es-CO")
    expect(tab.main.get_by_role("heading", level=1)).to_contain_text("¿Cuánto vale la vivienda?")
    expect(tab.page.locator("html")).to_have_attribute("lang", "es")
    tab.estimate()
    expect(metric(tab, "Precio estimado")).to_have_text(re.compile(r"^\d{1,3}(\.\d{3})*\s\$$"))
    assert not tab.findings()
    tab.page.get_by_label("Idioma").click()
    tab.page.get_by_role("option", name="English").click()
    expect(tab.main.get_by_role("heading", level=1)).to_contain_text("What is the house worth?")
    expect(tab.page).to_have_url(re.compile("lang=en"))
    tab.page.get_by_role("link", name="Model").click()
    expect(tab.main.get_by_role("heading", level=1)).to_contain_text("The served model")
    expect(tab.page).to_have_url(re.compile("lang=en"))
    address = tab.page.url
    opened = visit(locale="es-CO")
    opened.page.goto(address)
    expect(opened.main.get_by_role("heading", level=1)).to_contain_text("The served model")


def test_price_with_its_reasons_prints_as_one_sheet(visit: Visit) -> None:
    tab = visit()
    tab.estimate()
    assert tab.sheets() == 1


def test_keyboard_alone_reaches_the_price(visit: Visit) -> None:
    tab = visit()
    button = tab.page.get_by_role("button", name="Estimate the price")
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        if button.evaluate("one => one === document.activeElement"):
            break
    expect(button).to_be_focused()
    tab.page.keyboard.press("Enter")
    expect(metric(tab, "Estimated price")).to_contain_text("$")
