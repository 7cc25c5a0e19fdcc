"""The map of similar sales: the outlines of their states, and a point for each ZIP code. No tiles, no other hosts.

`maps/NOTICE.md` has the sources of the files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import polars as pl

from ui.charts import localized
from ui.language import _, dollars, plural
from ui.predictor import Json

_FOLDER = Path(__file__).with_name("maps")
_OTHER_NAMES = {"Virgin Islands": "United States Virgin Islands"}
_MOST = 20  # sales of the largest point
# The projection of the mainland, Alaska and Hawaii has no room for territories.
_TERRITORIES = {"Puerto Rico", "United States Virgin Islands", "Guam", "American Samoa"}
Position = tuple[float, float]  # latitude, longitude


@dataclass(frozen=True)
class ZipCodeSales:
    """The similar sales of one ZIP code."""

    zip_code: str
    city: str
    prices: list[float]

    @property
    def text(self) -> str:
        """Place, number of sales and prices, for people."""
        low, high = dollars(min(self.prices)), dollars(max(self.prices))
        many = plural("{count} house", "{count} houses", len(self.prices))
        return f"{self.zip_code} {self.city}: {many}, {low if low == high else f'{low} – {high}'}"  # noqa: RUF001


def by_zip_code(sales: Sequence[Json]) -> list[ZipCodeSales]:
    """The sales by ZIP code, in the order of the first sale of each. Sales without a ZIP code are left out."""
    groups: dict[str, ZipCodeSales] = {}
    for sale in sales:
        if sale["zip_code"]:
            group = groups.setdefault(sale["zip_code"], ZipCodeSales(sale["zip_code"], sale["city"] or "", []))
            group.prices.append(float(sale["price"]))
    return list(groups.values())


def chart(sales: Sequence[Json], house: str | None) -> alt.LayerChart | None:
    """The map; None without a ZIP code whose position is known.

    Args:
        sales: of the predictor's answer.
        house: ZIP code of the estimated house, which gets a mark of its own.
    """
    groups = [(group, place) for group in by_zip_code(sales) if (place := _places().get(int(group.zip_code)))]
    if not groups:
        return None
    states = {_OTHER_NAMES.get(name, name) for name in (str(sale["state"]) for sale in sales if sale["state"])}
    shapes = [_shape(name) for name in sorted(states) if name in _outlines()]
    territory = any(name in _TERRITORIES for name in states)
    titles = [_("Similar sales"), _("The house")]
    colors = alt.Scale(domain=titles, range=["#2f6db5", "#e08a2e"])
    points = [
        {"latitude": place[0], "longitude": place[1], "kind": titles[0], "sales": len(group.prices), "text": group.text}
        for group, place in groups
    ]
    layers = [_points(points, colors).mark_point(filled=True, opacity=0.75)]
    own = _places().get(int(house)) if house else None
    if own:
        mark = {"latitude": own[0], "longitude": own[1], "kind": titles[1], "sales": _MOST, "text": house}
        layers.append(_points([mark], colors).mark_point(shape="diamond", strokeWidth=3, opacity=1))  # around the point
    if shapes:
        land = alt.Chart(alt.InlineData(values=shapes)).mark_geoshape(
            fill="#8a93a1", fillOpacity=0.2, stroke="#8a93a1", aria=False
        )
        layers.insert(0, land)
    described = _(
        "Map of the similar sales by ZIP code. {places}", places="; ".join(group.text for group, place in groups)
    )
    projection = alt.Projection(type="mercator" if territory else "albersUsa")
    return localized(alt.LayerChart(layer=layers, height=360, description=described, projection=projection))


def _points(points: list[Json], colors: alt.Scale) -> alt.Chart:
    return alt.Chart(pd.DataFrame(points)).encode(
        longitude="longitude:Q",
        latitude="latitude:Q",
        size=alt.Size("sales:Q", scale=alt.Scale(domain=[1, _MOST], range=[60, 900]), legend=None),
        color=alt.Color("kind:N", scale=colors, title=None, legend=alt.Legend(orient="top")),
        tooltip=[alt.Tooltip("text", title=_("ZIP code"))],
    )


@cache
def _places() -> dict[int, Position]:
    """The centre of each ZIP code."""
    frame = pl.read_parquet(_FOLDER / "zip_codes.parquet")
    return {code: (latitude, longitude) for code, latitude, longitude in frame.iter_rows()}


@cache
def _outlines() -> dict[str, Any]:
    """Polygons of each state, in degrees."""
    outlines: dict[str, Any] = json.loads((_FOLDER / "states.json").read_text())
    return outlines


def _shape(state: str) -> Json:
    return {
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": _outlines()[state]},
        "properties": {},
    }
