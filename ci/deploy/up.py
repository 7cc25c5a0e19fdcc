"""Set up everything on an empty machine: cluster, images, platform, one pipeline run, one prediction.

Each step does only the missing work, so `make up` continues after an interruption, and a second `make up` changes
nothing. Images are built while the cluster starts: one waits for the network while the other compiles. The seconds of
each step are printed at the end.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import httpx

from ci.common.console import Failure, main, phase, say, stream
from ci.common.environments import known_env
from ci.common.gocache import BESIDE, trim_go_cache
from ci.common.kube import PLATFORM, forward, secret
from ci.common.sample_listing import LISTING
from ci.deploy import pages, platform, release, runs, workloads
from ci.deploy.parallel import Program, together

COMPILED = 20  # seconds; a shorter step compiled nothing, and Go's build cache did not grow


def predict(seconds: float = 60) -> dict[str, object]:
    """Get a price for one listing; waits until the predictor serves the champion."""
    deadline = time.monotonic() + seconds
    why = ""
    keys = secret(PLATFORM, "fastapi").get("API_KEYS", "")
    headers = {"Authorization": f"Bearer {keys.partition(',')[0]}"}  # required if requireApiKey is set
    while time.monotonic() < deadline:
        try:
            with forward(PLATFORM, "service/fastapi", 8000) as url:
                answer = httpx.post(f"{url}/predict", json=LISTING, headers=headers, timeout=10)
            if answer.status_code == 200:
                body: dict[str, object] = answer.json()
                return body
            why = f"{answer.status_code} {answer.text[:200]}"
        except (Failure, httpx.TransportError) as away:
            why = str(away)
        time.sleep(1)
    raise Failure(f"the predictor did not answer within {seconds:.0f} s: {why}")


def has_model() -> bool:
    """Whether a predictor pod is Ready, which means that it serves a champion."""
    return "deployment/fastapi" not in workloads.late_workloads()


def up(env: str, cluster: bool, images: bool, extra: list[str], parallel: bool = True) -> None:
    """Run all steps; cluster and images in parallel unless `parallel` is false.

    Raises:
        Failure: a step failed, or the environment does not use images of this machine.
    """
    if images and not release.is_local(address := release.registry(env)):
        raise Failure(
            f"{env} runs images of {address}, but `make up` uses images of this machine: `make install ENV={env}`"
        )
    start = time.monotonic()
    times: list[str] = []

    def step(name: str, then: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        with phase(name, then):
            work()
        times.append(f"{name} {time.monotonic() - began:.0f}")

    bring_up = Program("cluster", ("-m", "ci.cluster", "up"))
    build = _build_images(env, *(() if parallel else ("--jobs", "1")))
    if cluster and images and parallel:
        # The cluster comes first: after compiling, its steps mostly wait, and images are built in that time.
        times.append(_in_parallel(bring_up, build))
    else:
        if cluster:
            step(bring_up.name, "the images" if images else "the platform", lambda: stream(*bring_up.words))
        if images:
            step(build.name, "load them into the cluster", lambda: stream(*build.words))
    if images:
        step("load images", "install the platform", lambda: stream("-m", "ci.images", "load", "--env", env))
    step(
        "install", "wait for every component", lambda: say("installed" if platform.install(env, extra) else "unchanged")
    )
    step("components", "first pipeline run", workloads.wait_ready)
    if has_model():
        say("a champion is served already: no pipeline run is needed (`make run` starts one)")
    else:

        def first_run() -> None:
            with runs.airflow() as client:
                runs.run_once(client)

        step("pipeline run", "ask for a price", first_run)
    began = time.monotonic()
    answer = predict()
    times.append(f"prediction {time.monotonic() - began:.0f}")
    say(f"price of a house in {LISTING['city']}, {LISTING['state']}: ${answer['price']:,.0f}")
    print(json.dumps(answer, indent=2))
    pages.show()
    print(f"\nseconds per step: {', '.join(times)}; {time.monotonic() - start:.0f} in all", flush=True)


def build(env: str) -> None:
    """Build the node image and the platform's images in parallel, without creating a cluster."""
    print(f"seconds: {_in_parallel(Program('node image', ('-m', 'ci.cluster', 'build')), _build_images(env))}")


def _build_images(env: str, *options: str) -> Program:
    """The program that builds the images. Its niceness leaves the processors to the program beside it."""
    return Program("build images", ("-m", "ci.images", "build", "--env", env, *options), nice=10)


def _in_parallel(*programs: Program) -> str:
    """Run programs in parallel; returns the seconds of each as text."""
    names = [program.name for program in programs]
    with phase(f"{' and '.join(names)}, in parallel"):
        seconds = together(programs, {BESIDE: "1"})
    if max(seconds.values()) > COMPILED:
        trim_go_cache()
    return f"{' and '.join(f'{name} {took:.0f}' for name, took in seconds.items())} in parallel"


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ci.deploy.up", description=__doc__)
    parser.add_argument(
        "--env", type=known_env, default="kind", help="environment: values/<env>.yaml (default: %(default)s)"
    )
    parser.add_argument("--no-cluster", action="store_true", help="use the running cluster")
    parser.add_argument("--no-images", action="store_true", help="use the images on the cluster")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a value, like helm --set"
    )
    parser.add_argument(
        "--sequential",
        action="store_true",
        help="create the cluster first, then build one image after another: slower, but needs less memory",
    )
    parser.add_argument(
        "--build-only", action="store_true", help="build the node image and all images, and create no cluster"
    )
    options = parser.parse_args()
    if options.build_only:
        build(options.env)
        return
    up(options.env, not options.no_cluster, not options.no_images, options.set, not options.sequential)


if __name__ == "__main__":
    main(_main)
