"""`GET /places` finds the places that the champion was trained on."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi.testclient import TestClient

from core.features.encodings import COLUMNS, Encodings, Table
from predictor.pricing.places import Place, PlaceIndex
from tests.kit.small_models import Model

from .conftest import Registry, until

CITIES = {"New York, New York": 9, "York, Maine": 4, "Springfield, Illinois": 6, "Springfield, Ohio": 2, ", Ohio": 1}
ZIPS = {10001.0: ("New York, New York", 5), 501.0: ("New York, New York", 4), 3909.0: ("York, Maine", 4)}


def table(rows: dict[str, int] | dict[float, int]) -> Table:
    return Table({key: at for at, key in enumerate(rows)}, np.zeros(len(rows) + 1), np.array([*rows.values(), 0.0]))


def encodings() -> Encodings:
    """The places above; of ZIP code 99999, the city is unknown."""
    tables = {name: table({}) for name in COLUMNS} | {"city": table(CITIES)}
    tables["zip_code"] = table({key: sales for key, (_, sales) in ZIPS.items()} | {99999.0: 3})
    within = [list(CITIES).index(city) for city, _ in ZIPS.values()] + [len(CITIES), len(CITIES)]
    return Encodings(0.0, np.zeros(0), tables, {"zip_code": np.array(within), "city": np.zeros(len(CITIES) + 1)})


PLACES = PlaceIndex(encodings())
IN_NEW_YORK = [Place("New York", "New York", "10001", 5), Place("New York", "New York", "00501", 4)]


@pytest.mark.parametrize(
    ("query", "state", "matches"),
    [
        ("new", "", IN_NEW_YORK),
        ("  NEW YORK ", "", IN_NEW_YORK),
        ("york", "", [*IN_NEW_YORK, Place("Maine", "York", "03909", 4)]),
        ("york", "maine", [Place("Maine", "York", "03909", 4)]),
        ("00501", "", IN_NEW_YORK[1:]),
        ("0", "", [IN_NEW_YORK[1], Place("Maine", "York", "03909", 4)]),
        ("spring", "", [Place("Illinois", "Springfield", None, 6), Place("Ohio", "Springfield", None, 2)]),
        ("ork", "", []),
        ("999", "", []),
        ("york\n", "Maine", [Place("Maine", "York", "03909", 4)]),
    ],
)
def test_search_finds_the_starts_of_zip_codes_and_of_words(query: str, state: str, matches: list[Place]) -> None:
    assert sorted(PLACES.search(query, state, 100), key=repr) == sorted(matches, key=repr)


def test_places_with_the_most_sales_come_first() -> None:
    assert [place.sales for place in PLACES.search("", "", 100)] == [6, 5, 4, 4, 2, 1]
    assert [place.sales for place in PLACES.search("", "", 2)] == [6, 5]


def test_every_place_of_the_champion_is_found(
    client: TestClient, registry: Registry, models: tuple[Model, Model]
) -> None:
    for at, model in enumerate(models):
        if at:
            registry.add(model)
            until(lambda: client.get("/model").json()["version"] == "2")
        tables = model.bundle.encodings.tables
        for zip_code, sales in list(zip(tables["zip_code"].index, tables["zip_code"].rows, strict=False))[:20]:
            [place] = client.get("/places", params={"query": f"{int(zip_code):05d}"}).json()["places"]
            assert (place["zip_code"], place["sales"]) == (f"{int(zip_code):05d}", sales)
            assert f"{place['city']}, {place['state']}" in tables["city"].index
    assert len(client.get("/places").json()["places"]) == min(20, len(tables["zip_code"].index))
    assert len(client.get("/places", params={"limit": 3}).json()["places"]) == 3


@pytest.mark.parametrize(
    ("parameters", "field"), [({"limit": 0}, "limit"), ({"limit": 101}, "limit"), ({"query": "x" * 5000}, "query")]
)
def test_invalid_parameter_is_refused_with_its_name(
    client: TestClient, parameters: dict[str, str | int], field: str
) -> None:
    answer = client.get("/places", params=parameters)
    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [["query", field]]


def test_without_a_model_the_cause_is_given(empty: TestClient) -> None:
    until(lambda: "alias" in empty.get("/model").text)
    answer = empty.get("/places", params={"query": "aga"})
    assert answer.status_code == 503
    assert "no version of house-price has the alias champion" in answer.json()["detail"]
