"""
### One batch of house listings, from the data API to the price service

Each run processes one batch. A stage is one pod that runs `python -m pipeline <stage>`. It passes on references (a
batch number, an MLflow run id), never rows. A stage can be cleared and run again with the same result.

| state | meaning |
|---|---|
| `fetch` and all other stages skipped | the data API has no new batch; nothing to do |
| `train` to `reject` skipped | `decide` found no reason to train; its XCom `result` has the explanation |
| `promote` green | the challenger won, and is the champion now |
| `reject` green | the challenger lost, and the champion stays; `result` has the verdict with its figures |
| `report` green | the run is over; its page is the artifact `report.html` in the MLflow run of the decision |
| red | the log ends with the error and its remedy; apply it, then clear the task |

The page *History* of the price service shows the decisions, promotions and rejections of all runs. The DAG
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
    schedule=os.environ.get("PIPELINE_SCHEDULE") or None,  # empty: runs start by hand only
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
    # Runs after any of its branches; skipped if all of them were skipped.
    tasks["report"].trigger_rule = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
