"""The places that the champion was trained on, for the suggestions of forms."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

from core.features.encodings import Encodings
from predictor.errors import NoModelError
from predictor.pricing.ports import ModelSource


@dataclass(frozen=True, slots=True)
class Place:
    """A ZIP code, or a city without a known one. `sales` counts its training rows."""

    state: str
    city: str
    zip_code: str | None
    sales: int


@dataclass(frozen=True, slots=True)
class _Entry:
    words: str  # the city from each of its words on, after line breaks: "\nnew york\nyork"
    place: Place


class PlaceIndex:
    """All places of a model, those with the most sales first."""

    def __init__(self, encodings: Encodings) -> None:
        cities, zips = encodings.tables["city"], encodings.tables["zip_code"]
        names = [split_city(str(key)) for key in cities.index]
        places = []
        with_zip = set()
        for zip_code, within, sales in zip(zips.index, encodings.within["zip_code"], zips.rows, strict=False):
            if within < len(names):
                with_zip.add(within)
                state, city = names[within]
                places.append(Place(state, city, f"{int(zip_code):05d}", int(sales)))
        for at, ((state, city), sales) in enumerate(zip(names, cities.rows, strict=False)):
            if at not in with_zip:
                places.append(Place(state, city, None, int(sales)))
        places.sort(key=attrgetter("sales"), reverse=True)
        self._entries = [_Entry(_searchable(place.city), place) for place in places]

    def search(self, query: str, state: str, limit: int) -> list[Place]:
        """PlaceIndex whose ZIP code or city begins with `query`, or a later word of the city; "" for all.

        Upper and lower case are the same. At most `limit` places, those with the most sales first.

        Args:
            query: what the visitor typed so far.
            state: name of the state to which the search is limited; "" for all.
            limit: number of places, at most.
        """
        wanted, state = query.strip().casefold(), state.strip().casefold()
        matches: list[Place] = []
        for entry in self._entries:
            place = entry.place
            if state and place.state.casefold() != state:
                continue
            if (place.zip_code or "").startswith(wanted) or f"\n{wanted}" in entry.words:
                matches.append(place)
                if len(matches) == limit:
                    break
        return matches


class PlaceSearch:
    """Searches the places of the current champion. Can be used in any thread."""

    def __init__(self, models: ModelSource) -> None:
        self._models = models
        self._built: tuple[Encodings, PlaceIndex] | None = None

    def search(self, query: str, state: str, limit: int) -> list[Place]:
        """See `PlaceIndex.search`.

        Raises:
            NoModelError: no model is loaded yet.
        """
        current = self._models.state
        if current.model is None:
            raise NoModelError(current.problem or "no model is loaded yet")
        encodings = current.model.bundle.encodings
        built = self._built  # read once: another thread may replace it
        if built is None or built[0] is not encodings:
            self._built = built = (encodings, PlaceIndex(encodings))
        return built[1].search(query, state, limit)


def split_city(city: str) -> tuple[str, str]:
    """State and city of the category of a city, which `core.features.unencoded.city_key` makes."""
    name, _, state = city.rpartition(", ")
    return state, name


def _searchable(city: str) -> str:
    words = city.casefold().split(" ")
    return "".join("\n" + " ".join(words[at:]) for at in range(len(words)))
