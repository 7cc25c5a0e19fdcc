"""Asks the predictor for prices and sends back a true price. Needs Python 3.9 or newer and `pip install httpx`.

PREDICTOR_URL=http://localhost:8000 python predict.py

If the service requires a key, set API_KEY as well.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import httpx

ATTEMPTS = 4
AGAWAM = {"city": "Agawam", "state": "Massachusetts", "zip_code": "01001", "bed": 3, "bath": 2, "house_size": 1276}
BOSTON = {"city": "Boston", "state": "Massachusetts", "bed": 2}  # unknown fields may be left out
WRONG = {"city": "Agawam", "state": "Massachusetts", "bed": "three"}


def post(client: httpx.Client, path: str, body: Any) -> httpx.Response:
    """Send a request. After a 429 or 503, wait for the seconds in `Retry-After`, and send it again."""
    for _ in range(ATTEMPTS - 1):
        answer = client.post(path, json=body)
        if answer.status_code not in (429, 503):
            return answer
        seconds = float(answer.headers.get("Retry-After", 1))
        print(f"{answer.status_code}, next attempt in {seconds:g} s: {answer.text}", file=sys.stderr)
        time.sleep(seconds)
    return client.post(path, json=body)


def one_price(client: httpx.Client) -> str:
    """Price one listing. Returns the request id, which feedback needs."""
    answer = post(client, "/predict", AGAWAM).raise_for_status().json()
    print(f"one listing: {answer['price']:.2f}, 80 % interval {answer['low']:.2f} to {answer['high']:.2f}")
    return str(answer["request_id"])


def list_of_prices(client: httpx.Client) -> None:
    """Price several listings in one request. `prices`, `low` and `high` have the order of the listings."""
    answer = post(client, "/predict", [AGAWAM, BOSTON]).raise_for_status().json()
    for price, low, high in zip(answer["prices"], answer["low"], answer["high"]):  # noqa: B905  # strict needs 3.10
        print(f"in a list: {price:.2f}, 80 % interval {low:.2f} to {high:.2f}")


def invalid_listing(client: httpx.Client) -> None:
    """Read a 422: each error names the field and the rule that the value breaks. Do not send the same body again."""
    answer = post(client, "/predict", WRONG)
    if answer.status_code == 422:
        for error in answer.json()["detail"]:
            print(f"invalid: {'.'.join(map(str, error['loc']))}: {error['msg']}")


def send_feedback(client: httpx.Client, request_id: str, true_price: float) -> None:
    """Send the price for which the house was sold. A 404 can mean that the price is not in the log yet."""
    for _ in range(10):
        answer = post(client, "/feedback", {"request_id": request_id, "price": true_price})
        if answer.status_code != 404:
            break
        time.sleep(1)
    print(f"true price stored: {answer.raise_for_status().json()['price']:.2f}")


def main() -> None:
    """Run the four examples."""
    url = os.environ.get("PREDICTOR_URL", "http://localhost:8000")
    key = os.environ.get("API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            request_id = one_price(client)
            list_of_prices(client)
            invalid_listing(client)
            send_feedback(client, request_id, 251_000)
    except httpx.HTTPStatusError as error:
        sys.exit(f"{error.response.status_code}: {error.response.text}")
    except httpx.TransportError as error:
        sys.exit(f"no answer from {url}: {error}")


if __name__ == "__main__":
    main()
