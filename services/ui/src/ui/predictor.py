"""The one way from the pages to the platform: the predictor's HTTP interface, with short timeouts."""

from __future__ import annotations

from typing import Any

import httpx

Json = dict[str, Any]


class PredictorError(Exception):
    """A question that the predictor did not answer: what happened, and what the reader can do."""

    def __init__(self, happened: str, advice: str) -> None:
        super().__init__(f"{happened} {advice}")
        self.happened = happened
        self.advice = advice


class InvalidListingError(PredictorError):
    """The predictor refused values of the form; `fields` maps each field's name to its rule."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__("Some values cannot be right.", "Change them and ask again.")
        self.fields = fields


class Predictor:
    """Client of one predictor; safe to share between sessions."""

    def __init__(self, url: str, key: str = "", transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(8, connect=3)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def schema(self) -> Json:
        """JSON schema of a listing."""
        return self._json("GET", "/schema")

    def model(self) -> Json:
        """The model that answers."""
        return self._json("GET", "/model")

    def history(self) -> Json:
        """Batches, decisions, trainings and promotions."""
        return self._json("GET", "/history")

    def explain(self, listing: Json) -> Json:
        """The price of one listing, and what each feature adds to it."""
        return self._json("POST", "/explain", listing)

    def _json(self, method: str, path: str, body: Json | None = None) -> Json:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TimeoutException as late:
            raise PredictorError(
                f"The predictor at `{self.url}` did not answer in time.", "Try again in a moment."
            ) from late
        except httpx.TransportError as away:
            raise PredictorError(
                f"The predictor at `{self.url}` cannot be reached.", "Check that its pods are running, then try again."
            ) from away
        if answer.status_code == 422:
            raise InvalidListingError({str(error["loc"][-1]): error["msg"] for error in answer.json()["detail"]})
        if answer.status_code == 401:
            raise PredictorError(
                "The predictor does not know this page's key.",
                "The first of API_KEYS in the Secret `fastapi` is used: restart both after a change.",
            )
        if answer.status_code == 503:
            raise PredictorError(sentence(_detail(answer)), _ADVICE.get(path, "Try again in a moment."))
        if answer.is_error:
            identity = answer.headers.get("X-Request-ID", "unknown")
            raise PredictorError(
                f"The predictor answered with an error ({answer.status_code}).",
                f"Its log has the cause under request id {identity}.",
            )
        told: Json = answer.json()
        return told


_NO_MODEL = (
    "Prices are there once a pipeline run has promoted a model: start or check the run of `house_price_pipeline` in "
    "Airflow. This page needs no restart."
)
_ADVICE = {
    "/explain": _NO_MODEL,
    "/model": _NO_MODEL,
    "/history": "The ledger's database may be starting. Prices are answered without it.",
}


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return "the predictor is not available"


def sentence(text: str) -> str:
    """An error's text as a sentence of its own."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
