"""
### One batch of house listings, from the data API to the price service

Each run takes one batch through the stages below. A stage is one pod that runs `python -m pipeline <stage>`; it hands
on references (a batch number, an MLflow run id), never rows, and can be cleared and run again with the same result.

| you see | it means |
|---|---|
| `fetch` skipped | the data API has no new batch; nothing to do |
| `decide` skipped | the batch is stored, and is no reason to train; the task's XCom `result` says why |
| `promote` green | the challenger became champion, or was rejected; `result` has the verdict with its figures |
| red | the error in the log is one sentence that says what is wrong and what to do; then clear the task |

Decisions, promotions and rejections of all runs are on the page *History* of the price service.
"""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, chain
from stage_pod import StagePod

from pipeline import STAGES

with DAG(
    dag_id="house_price_pipeline",
    doc_md=__doc__,
    description="Fetch a batch of listings, decide, train, compare, promote",
    schedule=os.environ.get("PIPELINE_SCHEDULE") or None,  # empty: runs are started by hand
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=4),
    default_args={"retries": 3, "retry_delay": timedelta(seconds=10)},
    tags=["house-price"],
):
    chain(*(StagePod(stage=stage) for stage in STAGES))
