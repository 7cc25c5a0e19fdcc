"""The predictor's batch job on a file in MinIO, and shadow prices of a challenger."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import httpx
import polars as pl
import pytest
from minio import Minio
from minio.error import S3Error

from ci.common.console import wait_for
from ci.common.kube import PLATFORM, forward, get, kube, secret
from ci.common.sample_listing import LISTING
from core.model.bundle import MANIFEST
from tests.kit.damaged_bundles import Damaged
from tests.kit.platform_data import ledger, mlflow_login
from tests.kit.promotions import Registrar

pytestmark = pytest.mark.e2e

ROWS = 5_000


def test_batch_job_and_service_give_the_same_prices(predictor: str) -> None:
    frame = pl.DataFrame([LISTING | {"house_size": 500.0 + at} for at in range(ROWS)] + [LISTING | {"bed": -1.0}])
    body = io.BytesIO()
    frame.write_parquet(body)
    keys = secret(PLATFORM, "fastapi-batch")
    with forward(PLATFORM, "service/minio", 9000) as url:
        store = Minio(
            url.removeprefix("http://"),
            access_key=keys["S3_ACCESS_KEY"],
            secret_key=keys["S3_SECRET_KEY"],
            secure=False,
        )
        with pytest.raises(S3Error, match="Access Denied"):
            list(store.list_objects("house-data"))
        store.put_object("batch", "listings.parquet", io.BytesIO(body.getvalue()), len(body.getvalue()))
        kube("-n", PLATFORM, "create", "job", "--from=cronjob/fastapi-batch", "prices")
        try:
            wait_for("the prices", lambda: get("job/prices", "-n", PLATFORM)["status"].get("succeeded") == 1, 120)
            log = kube("-n", PLATFORM, "logs", "job/prices")
        finally:
            kube("-n", PLATFORM, "delete", "job", "prices", "--timeout=60s")
        priced = pl.read_parquet(store.get_object("batch", "prices.parquet").read())
    assert f"{ROWS + 1:,} rows in" in log
    assert "1 without a price: s3://batch/prices.parquet" in log
    answer = httpx.post(f"{predictor}/predict", json=frame[:ROWS].to_dicts(), timeout=30).json()
    assert priced["price"][:ROWS].to_list() == answer["prices"]
    assert priced["low"][:ROWS].to_list() == answer["low"]
    assert set(priced["model_version"][:ROWS]) == {answer["model_version"]}
    assert (priced["price"][ROWS], "bed" in priced["error"][ROWS]) == (None, True)
    assert priced.select(frame.columns).equals(frame)


def test_challenger_prices_are_written_to_the_ledger(predictor: str, mlflow: str, tmp_path: Path) -> None:
    champion = Registrar(mlflow, "house-price", "champion", login=mlflow_login())
    version = champion.champion(tmp_path)
    beside = Registrar(mlflow, "house-price", "challenger", login=mlflow_login())
    manifest = hashlib.sha256((tmp_path / MANIFEST).read_bytes()).hexdigest()
    challenger = beside.register(Damaged("the champion again", tmp_path, manifest))

    def compared() -> list[str]:
        where = f"where champion_version = '{version}' and challenger_version = '{challenger}'"
        [row] = ledger(f"select count(*), min(challenger_price / champion_price) from ledger.shadow_prices {where}")  # noqa: S608
        return row

    try:
        beside.promote(challenger)
        wait_for(
            "the challenger",
            lambda: httpx.get(f"{predictor}/model", timeout=10).json()["shadow"]["version"] == challenger,
            60,
        )
        before = httpx.post(f"{predictor}/predict", json=LISTING, timeout=10).json()
        for _ in range(20):
            assert httpx.post(f"{predictor}/predict", json=LISTING, timeout=10).json()["price"] == before["price"]
        wait_for("rows of compared prices", lambda: compared()[0] == "21", 60)
        assert compared() == ["21", "1"], "champion and challenger are the same model, but their prices differ"
    finally:
        beside.withdraw()
        beside.remove()
    wait_for(
        "no challenger",
        lambda: httpx.get(f"{predictor}/model", timeout=10).json()["shadow"]["version"] is None,
        60,
    )
