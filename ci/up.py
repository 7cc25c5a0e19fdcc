"""From an empty machine to a price: cluster, images, platform, one pipeline run, one prediction.

Each step does only what is still to be done, so an interrupted `make up` is taken up where it stopped, and a second
one changes nothing. Times of all steps are printed at the end.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import httpx

from ci import platform, release, runs
from ci.console import Failure, main, phase, say, stream
from ci.environments import known_env
from ci.example import LISTING
from ci.kube import PLATFORM, forward, secret


def predict(seconds: float = 60) -> dict[str, object]:
    """Ask the platform for the price of one listing; waits for the predictor to take up the champion."""
    deadline = time.monotonic() + seconds
    why = ""
    keys = secret(PLATFORM, "fastapi").get("API_KEYS", "")
    headers = {"Authorization": f"Bearer {keys.partition(',')[0]}"}  # needed where requireApiKey is set
    while time.monotonic() < deadline:
        try:
            with forward(PLATFORM, "service/fastapi", 8000) as url:
                answer = httpx.post(f"{url}/predict", json=LISTING, headers=headers, timeout=10)
            if answer.status_code == 200:
                found: dict[str, object] = answer.json()
                return found
            why = f"{answer.status_code} {answer.text[:200]}"
        except (Failure, httpx.TransportError) as away:
            why = str(away)
        time.sleep(1)
    raise Failure(f"the predictor did not answer within {seconds:.0f} s: {why}")


def has_model() -> bool:
    """True if a predictor pod is Ready, which it is once it serves a champion."""
    return "deployment/fastapi" not in platform.late_workloads()


def up(env: str, cluster: bool, images: bool, extra: list[str]) -> None:
    """Do all steps that are still to be done.

    Raises:
        Failure: a step failed, or the environment runs other images than those of this machine.
    """
    if images and not release.is_local(address := release.registry(env)):
        raise Failure(
            f"{env} runs images of {address}, and `make up` those that this machine builds: `make install ENV={env}`"
        )
    times: list[tuple[str, float]] = []

    def step(name: str, then: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        with phase(name, then):
            work()
        times.append((name, time.monotonic() - began))

    if cluster:
        step("cluster", "build the images", lambda: stream("-m", "ci.cluster", "up"))
    if images:
        step("build images", "load them into the cluster", lambda: stream("-m", "ci.images", "build", "--env", env))
        step("load images", "install the platform", lambda: stream("-m", "ci.images", "load", "--env", env))
    step(
        "install", "wait for every component", lambda: say("installed" if platform.install(env, extra) else "unchanged")
    )
    step("components", "first pipeline run", platform.wait_ready)
    if has_model():
        say("a champion is serving already: no pipeline run is needed (make run starts one)")
    else:

        def first_run() -> None:
            with runs.airflow() as client:
                runs.run_once(client)

        step("pipeline run", "ask for a price", first_run)
    began = time.monotonic()
    answer = predict()
    times.append(("prediction", time.monotonic() - began))
    say(f"price of a house in {LISTING['city']}, {LISTING['state']}: ${answer['price']:,.0f}")
    print(json.dumps(answer, indent=2))
    platform.pages()
    print("\nseconds per step: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in times), flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ci.up", description=__doc__)
    parser.add_argument(
        "--env", type=known_env, default="kind", help="environment: values/<env>.yaml (default: %(default)s)"
    )
    parser.add_argument("--no-cluster", action="store_true", help="use the cluster that is up")
    parser.add_argument("--no-images", action="store_true", help="use the images that the cluster has")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="a value on top, as helm's --set"
    )
    options = parser.parse_args()
    up(options.env, not options.no_cluster, not options.no_images, options.set)


if __name__ == "__main__":
    main(_main)
