"""`GET /comparables` chooses the same sales as the written rule, and refuses what is not a listing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as some

from core.listing.parsing import parse_listings
from core.model.bundle import load_bundle, write_bundle
from core.model.sales import NO_ZIP, UNKNOWN_DAY, SalesTable, sales_table
from predictor.http.comparables_query import ComparablesQuery
from predictor.pricing.comparables import MAX_SALES, ComparedListing, nearest, similar, with_places
from predictor.pricing.listing import Listing
from tests.kit.small_models import Model, listings

from .conftest import Registry, until

CITIES = ("York", "Paris", None)
ZIPS = (1, 2, 3, None)
SIZES = (0.0, 90.0, 1_000.0, 1_200.0, 250_000.0, None)


def random_table(rows: int, seed: int) -> SalesTable:
    """Sales with many equal values, and some without a value."""
    draw = np.random.default_rng(seed)

    def of(values: tuple[Any, ...]) -> Any:
        return values[draw.integers(len(values))]

    return sales_table(
        parse_listings(
            [
                {
                    "price": int(draw.integers(1_000, 10**6)), "state": of(("Ohio", "Maine", None)), "city": of(CITIES),
                    "zip_code": of(ZIPS), "house_size": of(SIZES), "acre_lot": of((0.0, 0.1, 2.0, None)),
                    "bed": of((1, 3, None)), "bath": of((1, 2.5)),
                    "prev_sold_date": of(("2021-05-01", "1999-01-01", None)),
                }
                for _ in range(rows)
            ]
        )
    )  # fmt: skip


def by_the_rule(table: SalesTable, listing: ComparedListing, limit: int) -> list[tuple[str, float, float]]:
    """The rule of the documentation, one sale after another: place, distance and price of the chosen sales."""
    ranked = []
    for at, sale in enumerate(table.rows.tolist()):
        price, size, lot, bed, bath, sold = sale
        (state, city), zip_code = table.place(at)
        if listing.zip_code is not None and zip_code == listing.zip_code != NO_ZIP:
            place = 0
        elif listing.city and (state, city) == (listing.state, listing.city):
            place = 1
        elif listing.state and state == listing.state:
            place = 2
        else:
            continue
        distance = 2.0 if sold == UNKNOWN_DAY else (table.newest - sold) / 365.25 / 5
        for own, other, step, least, limit_of_field in (
            (listing.house_size, size, math.log(1.2), 100, 100_000),
            (listing.acre_lot, lot, math.log(2), 0.01, 99_999),
            (listing.bed, bed, 1, None, 50),
            (listing.bath, bath, 1, None, 50),
        ):
            if own is None or own > limit_of_field:
                continue
            if math.isnan(other):
                distance += 2
            elif least:
                distance += abs(math.log(max(other, least) / max(own, least))) / step
            else:
                distance += abs(other - own) / step
        ranked.append((place, round(distance, 9), at, float(price)))
    names = ("zip_code", "city", "state")
    return [(names[place], distance, price) for place, distance, _, price in sorted(ranked)[:limit]]


compared = some.builds(
    ComparedListing,
    zip_code=some.sampled_from([1.0, 2.0, 77.0, None]),
    city=some.sampled_from([*CITIES, "Nowhere"]),
    state=some.sampled_from(["Ohio", "Maine", "Utah", None]),
    house_size=some.sampled_from(SIZES),
    acre_lot=some.sampled_from([0.0, 0.3, 100_000.0, None]),
    bed=some.sampled_from([0.0, 2.0, 444.0, None]),
    bath=some.sampled_from([1.0, 1.5, None]),
)


@settings(deadline=None, max_examples=120)
@given(compared, some.integers(0, 60), some.integers(0, 5), some.integers(1, MAX_SALES))
def test_choice_equals_the_rule_applied_to_one_sale_after_another(
    listing: ComparedListing, rows: int, seed: int, limit: int
) -> None:
    table = random_table(rows, seed)
    chosen = similar(table, listing, limit)
    assert [(sale.same, round(sale.distance, 9), sale.price) for sale in chosen] == by_the_rule(table, listing, limit)
    for sale in chosen:
        assert sale.distance == pytest.approx(sum(part.steps for part in sale.differences))
        assert all(part.steps >= 0 for part in sale.differences)


@given(some.lists(some.sampled_from([0.0, 0.5, 1.0, math.inf]), max_size=30), some.integers(1, 40))
def test_nearest_is_a_stable_sort(distances: list[float], count: int) -> None:
    expected = sorted(range(len(distances)), key=lambda at: (distances[at], at))[:count]
    assert nearest(np.array(distances, dtype=np.float64), count).tolist() == expected


def test_unknown_city_is_the_usual_one_of_the_zip_code(models: tuple[Model, Model]) -> None:
    encodings = models[0].bundle.encodings
    usual = ComparedListing(zip_code=1001.0, city="City 1", state="Alaska", bed=3)
    for city, state in ((None, None), ("City 1", None), (None, "Alaska"), ("Nowhere", "Alaska"), ("City 1", "Alaska")):
        assert with_places(ComparedListing(zip_code=1001.0, city=city, state=state, bed=3), encodings) == usual
    for other in (
        ComparedListing(zip_code=1001.0, state="Ohio"), ComparedListing(zip_code=99_999.0),
        ComparedListing(city="City 1"), ComparedListing(),
        ComparedListing(zip_code=1001.0, city="City 2", state="Arizona"),
    ):  # fmt: skip
        assert with_places(other, encodings) == other


HOUSE: dict[str, Any] = {"zip_code": "01001", "house_size": 1500, "bed": 3, "bath": 2, "acre_lot": 0.25}


def test_similar_sales_have_a_price_and_reasons(client: TestClient, models: tuple[Model, Model]) -> None:
    answer = client.get("/comparables", params=HOUSE)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model_name"], body["model_version"]) == ("house-price", "1")
    sales = body["sales"]
    assert len(sales) == 10
    rows = listings().filter(zip_code=1001.0)
    for sale in sales:
        assert (sale["same"], sale["zip_code"], sale["city"], sale["state"]) == (
            "zip_code",
            "01001",
            "City 1",
            "Alaska",
        )
        source = rows.filter(pl.col("house_size") == sale["house_size"], pl.col("price").round() == sale["price"])
        assert source.height, "a sale is a listing of the training"
        parts = {part["field"]: part for part in sale["differences"]}
        assert set(parts) == {"house_size", "acre_lot", "bed", "bath", "sold_on"}
        assert parts["house_size"]["difference"] == sale["house_size"] - 1500
        assert sale["distance"] == pytest.approx(sum(part["steps"] for part in parts.values()))
    assert [sale["distance"] for sale in sales] == sorted(sale["distance"] for sale in sales)
    more = client.get("/comparables", params=HOUSE | {"limit": 50}).json()["sales"]
    assert more[:10] == sales
    assert client.get("/comparables", params=HOUSE | {"garage": "yes"}).json() == body, "unknown fields are ignored"


def test_few_sales_of_a_zip_code_are_completed_by_others_of_the_state(client: TestClient) -> None:
    sales = client.get("/comparables", params={"zip_code": "99999", "state": "Alaska", "limit": 5}).json()["sales"]
    assert [sale["same"] for sale in sales] == ["state"] * 5


@pytest.mark.parametrize(
    "place", [{}, {"zip_code": ""}, {"city": "City 1"}, {"state": "Nowhere"}, {"zip_code": "99999"}]
)
def test_without_a_known_place_there_are_no_sales(client: TestClient, place: dict[str, str]) -> None:
    answer = client.get("/comparables", params={"bed": "3", **place})
    assert (answer.status_code, answer.json()["sales"]) == (200, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"), ("limit", "51"), ("limit", "many"), ("bed", "-1"), ("bed", "nan"), ("bed", "inf"),
        ("bed", "1e400"), ("bed", "three"), ("bed", "9" * 5_000), ("bed", "[3]"), ("bed", ""), ("bed", "\x00"),
        ("bath", "1001"), ("house_size", "1e8"), ("acre_lot", "-0.1"), ("zip_code", "123456"), ("zip_code", "many"),
        ("zip_code", "-1"), ("city", "x" * 201), ("state", "x" * 50_000),
    ],
)  # fmt: skip
def test_invalid_value_is_refused_with_its_name(client: TestClient, name: str, value: str) -> None:
    answer = client.get("/comparables", params=HOUSE | {name: value})
    assert answer.status_code == 422, answer.text
    assert {tuple(error["loc"][:2]) for error in answer.json()["detail"]} == {("query", name)}


def test_any_text_gets_an_answer_or_a_refusal(client: TestClient) -> None:
    texts = some.dictionaries(some.sampled_from([*ComparablesQuery.model_fields, "x"]), some.text(max_size=20))

    @settings(deadline=None, max_examples=60)
    @given(texts)
    def ask(parameters: dict[str, str]) -> None:
        assert client.get("/comparables", params=parameters).status_code in (200, 422)

    ask()


@pytest.mark.parametrize("name", sorted(set(ComparablesQuery.model_fields) - {"limit"}))
def test_fields_have_the_names_and_limits_of_a_listing(name: str) -> None:
    query, listing = (model.model_json_schema()["properties"][name] for model in (ComparablesQuery, Listing))
    assert query["title"] == listing["title"]
    limits = {"type", "minimum", "maximum", "maxLength", "pattern"}
    own = [{key: each[key] for key in limits & set(each)} for each in query.get("anyOf", [query])]
    assert all(one in listing["anyOf"] for one in own), own


def test_model_of_an_earlier_release_has_no_sales(
    client: TestClient, registry: Registry, models: tuple[Model, Model], tmp_path: Any
) -> None:
    bundle, text = models[0].bundle, (models[0].folder / "model.txt").read_text()
    golden = parse_listings(bundle.golden_listings)
    sha256 = write_bundle(tmp_path / "old", text, bundle.encodings, golden, bundle.intervals)
    registry.add(Model(tmp_path / "old", sha256, load_bundle(tmp_path / "old")))
    until(lambda: client.get("/model").json()["version"] == "2")
    answer = client.get("/comparables", params=HOUSE)
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith(
        "version 2 of the model has no sales, because an earlier release trained it"
    )
    assert client.post("/predict", json={"bed": 3}).status_code == 200


def test_without_a_model_the_cause_is_given(empty: TestClient) -> None:
    until(lambda: "alias" in empty.get("/model").text)
    answer = empty.get("/comparables", params=HOUSE)
    assert answer.status_code == 503
    assert "no version of house-price has the alias champion" in answer.json()["detail"]
