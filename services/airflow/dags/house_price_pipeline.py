"""
### One batch of house listings, from the data API to the price service

Each run takes one batch along the path below. A stage is one pod that runs `python -m pipeline <stage>`; it hands on
references (a batch number, an MLflow run id), never rows, and can be cleared and run again with the same result.

| you see | it means |
|---|---|
| `fetch` skipped, and all after it | the data API has no new batch; nothing to do |
| `train` and what follows skipped | `decide` says that the batch is no reason to train: its XCom `result` says why |
| `promote` green | the challenger beat the champion and is champion now |
| `reject` green | it did not; `result` has the verdict with its figures, the champion stays |
| `report` green | the run is over; the page is the artifact `report.html` of the decision's run in MLflow |
| red | the error in the log is one sentence that says what is wrong and what to do; then clear the task |

Decisions, promotions and rejections of all runs are on the page *History* of the price service. The DAG
`house_price_rollback` makes an earlier version the champion again.
"""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Label, TriggerRule
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
    tasks = {stage.name: StagePod(stage=stage) for stage in STAGES}
    for stage in STAGES:
        for answer, following in stage.then.items():
            if answer:
                tasks[stage.name] >> Label(answer) >> tasks[following]
            else:
                tasks[stage.name] >> tasks[following]
    # whichever way led there; skipped where no way did
    tasks["report"].trigger_rule = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
