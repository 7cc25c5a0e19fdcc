"""
### Make an earlier version the champion again

Start it with the number of a registered version and a reason. This release must be able to serve the version: its
bundle is loaded, and must give its golden prices. The alias moves last, and the predictors follow within seconds. The
ledger records the move, and the page *History* of the price service shows it.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param
from stage_pod import StagePod

from pipeline import COMMANDS, Stage

ROLLBACK = next(command for command in COMMANDS if command.name == "rollback")

with DAG(
    dag_id="house_price_rollback",
    doc_md=__doc__,
    description=ROLLBACK.doc,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={"retries": 3, "retry_delay": timedelta(seconds=10)},
    params={
        "to": Param(type="string", pattern=r"^\d+$", description=ROLLBACK.takes["to"]),
        "reason": Param(type="string", minLength=3, description=ROLLBACK.takes["reason"]),
    },
    tags=["house-price"],
):
    StagePod(
        stage=Stage(ROLLBACK.name, ROLLBACK.doc, needs=(), gives=(), memory="1Gi", then={}),
        arguments=["--to={{ params.to }}", "--reason={{ params.reason }}"],
    )
