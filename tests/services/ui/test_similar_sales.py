"""The table and the map of similar sales say what the predictor sent, and load nothing."""

from __future__ import annotations

from typing import Any

import pytest

from predictor.http.schemas import SimilarSales
from predictor.pricing.listing import STATES
from ui import sales_map
from ui.similar_sales import FIELDS, reasons


def sale(**changes: Any) -> dict[str, Any]:
    """A similar sale as the predictor sends it."""
    differences = [
        {"field": "house_size", "difference": 120.0, "steps": 0.4},
        {"field": "acre_lot", "difference": -0.25, "steps": 1.0},
        {"field": "bed", "difference": 1.0, "steps": 1.0},
        {"field": "bath", "difference": 0.0, "steps": 0.0},
        {"field": "sold_on", "difference": -2.0, "steps": 0.4},
    ]
    return {
        "price": 251_000.0,
        "sold_on": "2021-06-30",
        "house_size": 1_396.0,
        "acre_lot": 0.11,
        "bed": 4.0,
        "bath": 2.0,
        "zip_code": "01001",
        "city": "Agawam",
        "state": "Massachusetts",
        "same": "zip_code",
        "distance": 2.8,
        "differences": differences,
    } | changes


def test_example_is_an_answer_of_the_predictor() -> None:
    body = {"model_name": "house-price", "model_version": "7", "sales": [sale(), sale(sold_on=None, zip_code=None)]}
    assert SimilarSales.model_validate(body).model_dump(mode="json") == body
    assert set(FIELDS) <= set(sale())


@pytest.mark.parametrize(
    ("changes", "house_size", "words"),
    [
        ({}, 1_276, ["same ZIP code", "living area 9 % larger", "lot -0.25 acres", "bedrooms +1"]),
        ({"same": "city"}, None, ["same city", "lot -0.25 acres", "bedrooms +1"]),
        ({"differences": [{"field": "house_size", "difference": -1.0, "steps": 0.0}]}, 1_276,
         ["same ZIP code", "same living area"]),
        ({"differences": [{"field": "house_size", "difference": -638.0, "steps": 3.8}]}, 1_276,
         ["same ZIP code", "living area 50 % smaller"]),
        ({"differences": [{"field": "house_size", "difference": None, "steps": 2.0}]}, 1_276, ["same ZIP code"]),
        ({"differences": [{"field": "bath", "difference": -0.5, "steps": 0.5}]}, 1_276,
         ["same ZIP code", "bathrooms -0.5"]),
        ({"same": "state", "differences": []}, 0, ["same state"]),
    ],
)  # fmt: skip
def test_reasons_are_the_place_and_the_differences(
    changes: dict[str, Any], house_size: float | None, words: list[str]
) -> None:
    assert reasons(sale(**changes), house_size) == words


def specification(chart: Any) -> dict[str, Any]:
    result: dict[str, Any] = chart.to_dict()
    return result


def test_map_has_a_point_for_each_zip_code_and_one_for_the_house() -> None:
    sales = [sale(), sale(price=199_000.4), sale(zip_code="01030", city="Feeding Hills"), sale(zip_code=None)]
    chart = specification(sales_map.chart(sales, "01103"))
    points = [point for data in chart["datasets"].values() for point in data if "kind" in point]
    assert {(point["kind"], point["sales"]) for point in points} == {
        ("Similar sales", 2),
        ("Similar sales", 1),
        ("The house", 20),
    }
    assert "01001 Agawam: 2 houses, $199,000 – $251,000" in chart["description"]  # noqa: RUF001 - a range
    assert "01030 Feeding Hills: 1 house, $251,000" in chart["description"]
    for point in points:
        assert 41 < point["latitude"] < 43
        assert -74 < point["longitude"] < -71
    assert "url" not in str(chart)


@pytest.mark.parametrize("zip_code", [None, "99999", "00000"])
def test_without_a_position_there_is_no_map(zip_code: str | None) -> None:
    assert sales_map.chart([sale(zip_code=zip_code)], "01001") is None
    assert sales_map.chart([], None) is None


def test_every_state_of_the_form_has_an_outline() -> None:
    names = {sales_map._OTHER_NAMES.get(name, name) for name in STATES}
    assert names <= set(sales_map._outlines())
    for polygons in sales_map._outlines().values():
        for ring in (ring for polygon in polygons for ring in polygon):
            assert ring[0] == ring[-1]
            assert all(-180 <= longitude <= 180 and -15 <= latitude <= 72 for longitude, latitude in ring)


def test_place_of_a_zip_code_is_in_the_bounds_of_the_country() -> None:
    places = sales_map._places()
    assert len(places) == 33_791
    assert places[1001] == pytest.approx((42.062, -72.626), abs=0.001)
    assert all(-15 < latitude < 72 and (longitude < -64 or longitude > 140) for latitude, longitude in places.values())
