"""The whole loop in one terminal, without Kubernetes: from listings to a model to a price.

Starts a data source with synthetic listings, an embedded PostgreSQL, MLflow, and a folder as object store; runs the
pipeline's stages in order on every batch, as Airflow does in the cluster; then starts the predictor and the page.
The code is the platform's with other settings, for a first look and for development. It is not the platform: it has
no Kubernetes, no Airflow and no isolation, and it keeps nothing. Ctrl-C ends everything.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import threading
import time
from pathlib import Path

import httpx

from ci.common.console import Failure, main, phase, say, wait_for
from ci.common.sample_listing import LISTING
from ci.local.processes import SKIPPED, LocalPlatform


def demo(folder: Path, scale: float, stay: bool) -> None:
    """Run the loop on all batches of the synthetic data source, then serve."""
    began = time.monotonic()
    with LocalPlatform(folder) as platform:
        with phase("start PostgreSQL and MLflow", then="the data source"):
            platform.start_mlflow()
        with phase("start the data source", then="the pipeline's stages, batch by batch"):
            platform.start_datasource(latency_scale="0", scale=str(scale))
        end_of_data = False
        while not end_of_data:
            for done in platform.run_stages(min_batch_rows=str(int(10_000 * scale))):
                end_of_data = done.stage == "fetch" and done.code == SKIPPED
                took = f"{done.seconds:5.1f} s {done.peak_mib:5} MiB"
                say(f"  {done.stage:<9} {'skip' if done.code else 'done':<5} {took}  {done.summary}")
        with phase("start the predictor and the page", then="ask for a price"):
            predictor = platform.start_predictor()
            wait_for("a model", lambda: httpx.get(f"{predictor}/health/ready", timeout=5).status_code == 200, 30)
            page = platform.start_ui(predictor)
        answer = httpx.post(f"{predictor}/predict", json=LISTING, timeout=10)
        if answer.is_error:
            raise Failure(f"the predictor answered {answer.status_code}: {answer.text}")
        price = answer.json()
        say(f"price of a house in {LISTING['city']}, {LISTING['state']}: ${price['price']:,.0f}")
        print(json.dumps(price, indent=2))
        print(
            f"\n  page            {page}\n  predictor       {predictor}/docs\n  MLflow          {platform.mlflow_url}"
        )
        print(f"  data source     {platform.datasource_url}/docs\n  files and logs  {folder}\n")
        say(f"the loop took {time.monotonic() - began:.0f} s; this is not the platform (see `make up`)")
        if stay:
            say("press Ctrl-C to end everything")
            ended = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: ended.set())
            try:
                ended.wait()
            except KeyboardInterrupt:
                say("ending everything")


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ci.local.demo", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1, help="fraction of each batch's rows (default: %(default)s)")
    parser.add_argument("--once", action="store_true", help="end after the prediction")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="house-demo-") as folder:
        demo(Path(folder), options.scale, stay=not options.once)


if __name__ == "__main__":
    main(_main)
