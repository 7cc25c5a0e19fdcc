"""Client of the predictor's HTTP interface, with short time-outs. The pages use no other service."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from ui.texts import Text

Json = dict[str, Any]

PREDICT, EXPLAIN, FEEDBACK, PLACES = "/predict", "/explain", "/feedback", "/places"
COMPARABLES = "/comparables"
REPORTED_ERRORS = 100  # that a 422 names, at most; a test compares it with the predictor
_WAIT_SECONDS = 1.0  # after a refusal without a valid `Retry-After`
_AWAY_SECONDS = 5.0  # after a failed connection: a new pod needs some seconds


class PredictorError(Exception):
    """A failed request. `happened` says what happened, and `advice` what the user can do. Both are English."""

    def __init__(self, happened: str, advice: str) -> None:
        super().__init__(f"{happened} {advice}")
        self.happened = happened
        self.advice = advice


class InvalidValuesError(PredictorError):
    """The predictor refused values of a form. `fields` maps the name of a field to the message for it."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(Text("Some values are not valid."), Text("Change them and try again."))
        self.fields = fields


@dataclass(frozen=True)
class RefusedValue:
    """A value of a list of listings that breaks a rule. `position` is that of its listing, from 0."""

    position: int
    field: str
    rule: str


class RefusedListingsError(PredictorError):
    """The predictor refused a list. `values` has the first errors in order of position, at most `REPORTED_ERRORS`."""

    def __init__(self, values: list[RefusedValue]) -> None:
        super().__init__(Text("Some rows are not valid."), Text("Change them and try again."))
        self.values = values


class ListTooLargeError(PredictorError):
    """A list has more listings or more bytes than the predictor accepts."""


class RetryLaterError(PredictorError):
    """A request that can succeed after `seconds`: the predictor refused it for now, or did not answer."""

    def __init__(self, happened: str, advice: str, seconds: float) -> None:
        super().__init__(happened, advice)
        self.seconds = seconds


class Predictor:
    """Client of one predictor. Safe to share between sessions."""

    def __init__(self, url: str, key: str = "", transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(8, connect=3)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def schema(self) -> Json:
        """The JSON schema of a listing."""
        return self._json("GET", "/schema")

    def model(self) -> Json:
        """The served model."""
        return self._json("GET", "/model")

    def history(self) -> Json:
        """Batches, decisions, trainings and promotions."""
        return self._json("GET", "/history")

    def places(self, query: str) -> list[Json]:
        """Places that begin with `query`, those with the most sales first; none if the predictor is older."""
        matches: list[Json] = self._json("GET", PLACES, params={"query": query})["places"]
        return matches

    def comparables(self, fields: Json) -> list[Json] | None:
        """Sales that are similar to a listing with these fields; None if the predictor or its model is older."""
        sales: list[Json] | None = self._json("GET", COMPARABLES, params=fields)["sales"]
        return sales

    def price(self, listing: Json) -> Json:
        """The price of one listing."""
        return self._json("POST", PREDICT, listing)

    def prices(self, listings: list[Json]) -> Json:
        """The prices of a list of listings, in their order.

        Raises:
            RefusedListingsError, ListTooLargeError, RetryLaterError, PredictorError: see there.
        """
        return self._json("POST", PREDICT, listings)

    def explain(self, listing: Json) -> Json:
        """The price of one listing, and the contribution of each feature."""
        return self._json("POST", EXPLAIN, listing)

    def feedback(self, request_id: str, price: float) -> Json:
        """Store the true price of an estimate, in US dollars. A later price replaces an earlier one."""
        return self._json("POST", FEEDBACK, {"request_id": request_id, "price": price})

    def _json(self, method: str, path: str, body: Json | list[Json] | None = None, params: Json | None = None) -> Json:
        # httpx refuses numbers such as infinity; the predictor names their field and rule
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content else None
        try:
            response = self._http.request(method, path, content=content, headers=headers, params=params)
        except httpx.TimeoutException as late:
            raise RetryLaterError(
                Text("The predictor at `{url}` did not answer in time.", url=self.url), _LATER, _WAIT_SECONDS
            ) from late
        except httpx.TransportError as away:
            raise RetryLaterError(
                Text("The predictor at `{url}` cannot be reached.", url=self.url),
                Text("Check that its pods are running, then try again."),
                _AWAY_SECONDS,
            ) from away
        if response.status_code == 422:
            raise _invalid(response.json()["detail"], isinstance(body, list))
        if response.status_code == 401:
            raise PredictorError(
                Text("The predictor refused the API key of this page."),
                Text(
                    "The page sends the first of API_KEYS in the Secret `fastapi`. Restart both pods after a change of "
                    "it."
                ),
            )
        if response.status_code == 429:
            raise RetryLaterError(Text("Too many visitors use this page at present."), _LATER, _seconds(response))
        if response.status_code == 413:
            raise ListTooLargeError(
                Text("The request is too large for the predictor."), Text("Send fewer rows or shorter texts.")
            )
        if response.status_code == 404 and path == FEEDBACK:
            raise PredictorError(
                Text("The ledger does not have this estimate, so the true price was not stored."),
                Text(
                    "Estimates reach the ledger some seconds after the answer: try again in a moment. If the message "
                    "stays, the estimate was deleted after its retention, or `fastapi.config.predictionLog` is off."
                ),
            )
        if response.status_code == 404 and path == PLACES:
            return {"places": []}
        if response.status_code == 404 and path == COMPARABLES:
            return {"sales": None}
        if response.status_code == 503:
            advice = _ADVICE.get(path, _LATER)
            raise RetryLaterError(sentence(_detail(response)), advice, _seconds(response))
        if response.is_error:
            request_id = response.headers.get("X-Request-ID", "unknown")
            raise PredictorError(
                Text("The predictor answered with an error ({code}).", code=response.status_code),
                Text("Its log has the cause: search for the request id {id}.", id=request_id),
            )
        answer: Json = response.json()
        return answer


_LATER = Text("Try again in a moment.")
_NO_MODEL = Text(
    "Prices are available after a pipeline run has promoted a model: start or check a run of `house_price_pipeline` "
    "in Airflow. This page needs no restart."
)
_ADVICE = {
    PREDICT: _NO_MODEL,
    EXPLAIN: _NO_MODEL,
    PLACES: _NO_MODEL,
    COMPARABLES: _NO_MODEL,
    FEEDBACK: Text("The true price was not stored: try again in a moment."),
    "/model": _NO_MODEL,
    "/history": Text("The ledger's database may be starting. Prices do not need it."),
}


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return Text("The predictor is not available.")


def _invalid(errors: list[Json], is_list: bool) -> PredictorError:
    """The exception for the errors of a 422 answer. Their `loc` is body, position in a list, and field."""
    if not is_list:
        return InvalidValuesError({str(error["loc"][-1]): error["msg"] for error in errors})
    values = [
        RefusedValue(error["loc"][1], error["loc"][2], error["msg"]) for error in errors if len(error["loc"]) == 3
    ]
    if not values:  # a list that is not JSON, which names no row
        rules = "; ".join(error["msg"] for error in errors)
        return PredictorError(
            Text("The predictor refused the rows: {rules}.", rules=rules),
            Text("Report this error, because it is a bug."),
        )
    return RefusedListingsError(values)


def _seconds(response: httpx.Response) -> float:
    """The seconds of `Retry-After`. Dates in it are not read, because the predictor sends seconds."""
    try:
        return float(max(0, int(response.headers.get("Retry-After", ""))))
    except ValueError:
        return _WAIT_SECONDS


def sentence(text: str) -> str:
    """A text with a capital letter at the start and a full stop at the end."""
    if isinstance(text, Text):
        return text
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
