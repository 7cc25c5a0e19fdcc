"""What the predictor does beside answering: prices of a file in MinIO, and a challenger beside the champion."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import httpx
import polars as pl
import pytest
from minio import Minio
from minio.error import S3Error

from ci.console import wait_for
from ci.example import LISTING
from ci.kube import PLATFORM, forward, get, kube, secret
from core.bundle import MANIFEST
from tests.gitops.data import ledger
from tests.services.predictor.damaged import Damaged
from tests.services.predictor.promotions import Registrar

pytestmark = pytest.mark.e2e

ROWS = 5_000


def test_file_in_minio_is_priced_as_the_service_prices(predictor: str) -> None:
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
            told = kube("-n", PLATFORM, "logs", "job/prices")
        finally:
            kube("-n", PLATFORM, "delete", "job", "prices", "--timeout=60s")
        priced = pl.read_parquet(store.get_object("batch", "prices.parquet").read())
    assert f"{ROWS + 1:,} rows in" in told
    assert "1 without a price: s3://batch/prices.parquet" in told
    answer = httpx.post(f"{predictor}/predict", json=frame[:ROWS].to_dicts(), timeout=30).json()
    assert priced["price"][:ROWS].to_list() == answer["prices"]
    assert priced["low"][:ROWS].to_list() == answer["low"]
    assert set(priced["model_version"][:ROWS]) == {answer["model_version"]}
    assert (priced["price"][ROWS], "bed" in priced["error"][ROWS]) == (None, True)
    assert priced.select(frame.columns).equals(frame)


def test_challenger_prices_beside_the_champion_and_leaves_rows(predictor: str, mlflow: str, tmp_path: Path) -> None:
    champion = Registrar(mlflow, "house-price", "champion")
    version = champion.champion(tmp_path)
    beside = Registrar(mlflow, "house-price", "challenger")
    manifest = hashlib.sha256((tmp_path / MANIFEST).read_bytes()).hexdigest()
    challenger = beside.register(Damaged("the champion again", tmp_path, manifest))

    def compared() -> list[str]:
        where = f"where champion_version = '{version}' and challenger_version = '{challenger}'"
        [found] = ledger(f"select count(*), min(challenger_price / champion_price) from ledger.shadow_prices {where}")  # noqa: S608
        return found

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
        assert compared() == ["21", "1"], "the same model gives the same price"
    finally:
        beside.withdraw()
        beside.remove()
    wait_for(
        "no challenger",
        lambda: httpx.get(f"{predictor}/model", timeout=10).json()["shadow"]["version"] is None,
        60,
    )
