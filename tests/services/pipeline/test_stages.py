"""The stages on real PostgreSQL, MLflow and MinIO: the whole loop, repeated stages, and every fault of the data API."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
import polars as pl
import pytest

from ci.common.paths import CHECKOUT, cache_dir
from ci.local.processes import SKIPPED, LocalPlatform, StageResult, free_port
from core.errors import RegistryError
from core.stores import layout
from core.stores.registry import MANIFEST_TAG
from datasource import synthetic
from datasource.settings import DatasourceSettings
from pipeline import rows
from pipeline.decision import drift
from pipeline.outcome import SkipRun
from pipeline.tracking import Tracking
from tests.kit.world import HTTP
from tests.services.conftest import Provisioned
from tests.services.pipeline.loop import SCALE, STAGE, WON, Loop

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]  # the first run may compile MinIO

BATCHES = range(6)
REASONS = {
    0: "batch 0 is the baseline",
    1: "house_size moved",
    2: "listings with status sold are new to the champion",
    4: "batch 4 (with 3, unused so far): price moved",
    5: "batch 5: price moved",
}
EASY = {"min_mae_gain": "0", "max_rmse_loss": "9", "max_segment_loss": "9"}


@pytest.fixture(scope="module")
def story(platform: LocalPlatform, minio: Provisioned) -> Loop:
    """One loop that the first tests of this module share, in their order."""
    return Loop(platform, minio, "story")


ORIGIN = {"COMMIT": "c" * 40, "IMAGE_DIGEST": "sha256:" + "d" * 64}


@pytest.fixture(scope="module")
def first(story: Loop) -> dict[str, StageResult]:
    """All stages on batch 0."""
    return {done.stage: done for done in story.platform.run_stages(**story.environment, **ORIGIN)}


def references(done: dict[str, StageResult]) -> dict[str, Any]:
    return {"batch": done["fetch"].result["batch"], "run_id": done["train"].result["run_id"]}


def test_first_batch_is_trained_on_and_its_model_promoted(story: Loop, first: dict[str, StageResult]) -> None:
    assert tuple(first) == WON
    assert {name: done.code for name, done in first.items()} == dict.fromkeys(WON, 0)
    assert first["decide"].summary.startswith("train: batch 0 is the baseline")
    assert first["promote"].summary.startswith("version 1 promoted: it is the first model")
    assert story.champion() == "1"
    [row] = story.context.ledger.history()
    assert (row["state"], row["decision"], row["promoted"], row["champion"]) == ("used", "train", True, None)
    assert row["run_id"] == first["train"].result["run_id"]
    assert row["rows"] == row["valid"] + row["quarantined"] + row["duplicates"] == first["fetch"].result["rows"]


def test_raw_rows_are_stored_unmodified(story: Loop, first: dict[str, StageResult]) -> None:
    sent = synthetic.generate(0, DatasourceSettings().seed, SCALE)[0]
    assert rows.read(story.context.store, story.context.ledger.batch(0).raw_key).equals(sent)


def test_run_in_mlflow_records_its_inputs(story: Loop, first: dict[str, StageResult]) -> None:
    mlflow.set_tracking_uri(story.platform.mlflow_url)
    run = mlflow.MlflowClient().get_run(first["train"].result["run_id"])
    assert run.info.status == "FINISHED"
    assert (run.data.tags["batches"], run.data.tags["code_version"]) == ("0", "development")
    assert (run.data.tags["commit"], run.data.tags["image_digest"]) == (ORIGIN["COMMIT"], ORIGIN["IMAGE_DIGEST"])
    assert run.data.tags["reason"] in first["decide"].summary
    content = story.context.ledger.batch(0).sha256
    assert run.data.tags["batch_sha256.0"] == content
    decided = mlflow.MlflowClient().get_run(run.data.tags["decision_run"])
    assert (decided.data.tags["stage"], decided.data.tags["sha256"]) == ("decide", content)
    assert "promoted" in mlflow.artifacts.load_text(run.data.tags["report"])
    for kind in ("json", "html"):
        logged = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/validation.{kind}")
        assert logged == story.context.store.get(layout.report_key(0, kind)).decode()
    for part in ("train", "validation", "test"):
        assert {f"{part}_{score}" for score in ("rmse", "mae", "r2", "mape")} <= set(run.data.metrics)
        assert int(run.data.params[f"{part}_rows"]) > 0
    for score in ("mae", "coverage", "width"):
        assert run.data.metrics[f"holdout_challenger_{score}"] == pytest.approx(run.data.metrics[f"test_{score}"])
    assert 0.7 < run.data.metrics["test_coverage"] < 0.9
    kept = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"model_card.html", "shap_summary.svg", "feature_importance.json"} <= kept


@pytest.mark.parametrize("name", WON[1:])
def test_repeated_stage_has_the_same_result_and_writes_nothing(
    story: Loop, first: dict[str, StageResult], name: str
) -> None:
    before = story.everything()
    again = json.loads(json.dumps(story.stage(name, references(first))))
    if name == "train":  # its summary says that it ran before
        assert again["run_id"] == first[name].result["run_id"]
    else:
        assert again == first[name].result
    assert story.everything() == before


def test_version_in_mlflow_records_its_origin(story: Loop, first: dict[str, StageResult]) -> None:
    mlflow.set_tracking_uri(story.platform.mlflow_url)
    run = mlflow.MlflowClient().get_run(first["train"].result["run_id"]).data.tags
    version = mlflow.MlflowClient().get_model_version(story.name, "1").tags
    same = ("batch", "batches", "batch_sha256.0", "decision_run", "report", "commit", "image_digest", "code_version")
    for name in (*same, "fingerprint", "manifest_sha256"):
        assert version[name] == run[name], name
    assert version["reason"] == story.context.ledger.promotion(first["train"].result["run_id"])["reason"]  # type: ignore[index]
    assert "House price model" in mlflow.artifacts.load_text(version["model_card"])
    assert not [name for name in version if name.startswith("mlflow.")]


def test_pyfunc_of_the_champion_gives_the_prices_of_the_bundle(
    story: Loop, first: dict[str, StageResult], tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(story.platform.mlflow_url)
    bundle = story.bundle(tmp_path)
    bundle.check_golden()
    raw = rows.read_batch(story.context.store, 0, "test").drop("price")
    raw = raw.with_columns(city=pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.col("city")))
    loaded = mlflow.pyfunc.load_model(f"models:/{story.name}@champion")
    assert np.array_equal(loaded.predict(raw.to_pandas()), bundle.predict(raw))


CLEAN = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
listings = json.load(sys.stdin)
import core
priced = [model.predict(data).tolist() for data in (listings, pandas.DataFrame(listings))]
print(json.dumps({"core": core.__file__, "priced": priced}))
"""


def test_pyfunc_with_only_its_requirements_gives_the_golden_prices(
    story: Loop, first: dict[str, StageResult], tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(story.platform.mlflow_url)
    model, bundle = f"models:/{story.name}@champion", story.bundle(tmp_path / "bundle")
    python = tmp_path / "venv" / "bin" / "python"
    needed = mlflow.pyfunc.get_model_dependencies(model)
    subprocess.run([uv(), "venv", "-q", "--python", sys.executable, tmp_path / "venv"], check=True)
    subprocess.run([uv(), "pip", "install", "-q", "--python", python, "-r", needed], check=True)
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "MLFLOW_TRACKING_URI": story.platform.mlflow_url}
    done = subprocess.run(
        [python, "-I", "-c", CLEAN, model], input=json.dumps(bundle.golden_listings), env=environment, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)
    assert not Path(output["core"]).is_relative_to(CHECKOUT), "core is not the copy in the model"
    for priced in output["priced"]:
        assert priced == bundle.golden_prices


def uv() -> str:
    """Path of uv."""
    output = shutil.which("uv") or next(map(str, cache_dir().glob("uv-*/bin/uv")), None)
    assert output, "uv is missing: `make setup` installs it"
    return output


def test_no_artifact_holds_a_pickle(story: Loop, first: dict[str, StageResult]) -> None:
    files = [path for path in (story.platform.folder / "artifacts").rglob("*") if path.is_file()]
    assert {"MLmodel", "model.txt", "evaluation.json"} <= {path.name for path in files}
    for path in files:
        assert path.suffix not in {".pkl", ".pickle", ".joblib", ".pt"}, path
        if path.suffix == ".npy":
            assert not np.load(path, mmap_mode="r", allow_pickle=False).dtype.hasobject
        else:
            path.read_text()  # a pickle of protocol 2 or later is not UTF-8


def test_unreachable_mlflow_fails_with_one_sentence(story: Loop, first: dict[str, StageResult]) -> None:
    before = story.everything()
    away = Loop(
        story.platform,
        story.minio,
        story.name,
        {"mlflow_tracking_uri": f"http://127.0.0.1:{free_port()}", "component_wait_seconds": "0"},
    )
    with pytest.raises(RegistryError, match=r"^MLflow at http://127\.0\.0\.1:\d+ does not answer: .*refused"):
        away.stage("evaluate", references(first))
    assert story.everything() == before


@contextmanager
def damaged(artifacts: Path, run_id: str) -> Iterator[None]:
    """Damages the bundle of a run in MLflow's artifacts for the duration of the block."""
    message = [path for path in artifacts.rglob("MLmodel") if run_id in path.read_text()]
    [file] = message[0].parent.rglob("model.txt")
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"leaf_value=", b"leaf_value=9", 1))
    yield
    file.write_bytes(whole)


def test_failed_promotion_keeps_the_champion(story: Loop, first: dict[str, StageResult]) -> None:
    easy = Loop(
        story.platform, story.minio, story.name, {"min_mae_gain": "0", "max_rmse_loss": "9", "max_segment_loss": "9"}
    )
    done: dict[str, Any] = {}
    for name in WON[: WON.index("promote")]:
        result = easy.stage(name, done)
        done |= {reference: result[reference] for reference in STAGE[name].gives}
    assert done["batch"] == 1
    assert result["champion"], "the two are compared on one holdout"
    with damaged(story.platform.folder / "artifacts", done["run_id"]):
        failed = easy.process("promote", done)
    assert failed.code == 1
    assert "model.txt" in failed.result["error"]
    assert "is damaged" in failed.result["error"]
    assert story.champion() == "1"
    assert story.context.ledger.promotion(done["run_id"]) is None
    again = easy.stage("promote", done)
    assert again["summary"].startswith("version 2 promoted: MAE $")
    assert story.champion() == "2"
    before = story.everything()
    assert easy.stage("evaluate", done) == result, "the evaluation changed after its verdict was carried out"
    assert easy.stage("promote", done) == again
    assert story.stage("promote", references(first))["version"] == "1"
    assert story.everything() == before, "a second run of an old promotion changed something"


def test_all_batches_until_the_end_of_the_data(loop: Loop) -> None:
    loop.settings |= EASY
    message: list[str] = []
    while not message or "no more data" not in message[-1]:
        message.append(_ended(loop.turn))
    assert message[3] == (
        "batch 3 has 41 clean rows, fewer than 200 and rows from 1 state (Massachusetts), fewer than 13; "
        "its rows count in the next training"
    )
    assert message[-1] == "the data API has no more data"
    history = {row["batch_number"]: row for row in loop.context.ledger.history()}
    assert {number: row["decision"] for number, row in history.items()} == dict.fromkeys(BATCHES, "train") | {3: "skip"}
    for number, words in REASONS.items():
        assert words in history[number]["reason"], f"batch {number}: {history[number]['reason']}"
    assert loop.context.ledger.untrained_batches() == [], "the rows of batch 3 count in the training after it"
    decided = mlflow.search_runs(
        experiment_names=[loop.name], filter_string="tags.stage = 'decide'", output_format="list"
    )
    assert {int(run.data.tags["batch"]): run.data.tags["reason"] for run in decided} == {
        number: row["reason"] for number, row in history.items()
    }
    for run in decided:
        files = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
        assert {"decision.json", "decision.html", "validation.json", "validation.html"} <= files
        checked = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/validation.html")
        assert f"<title>Batch {run.data.tags['batch']}</title>" in checked
        assert checked.count("<svg") == len(drift.BINS) + len(drift.CATEGORIES), "a plot per column"
        assert ("report.html" in files) is (run.data.tags["decision"] == "train"), (
            "only trained batches get a report here"
        )
    done = loop.process("fetch")
    assert (done.code, done.result) == (SKIPPED, {"summary": "the data API has no more data"})


def test_champion_of_an_earlier_release_is_trained_again_without_a_new_batch(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, because predictors of the new release would otherwise wait for the next batch."""
    with monkeypatch.context() as earlier:
        earlier.setenv("CODE_VERSION", "earlier")
        for module in (
            "core.model.bundle",
            "pipeline.stages.train",
            "pipeline.evaluation.verdict",
            "pipeline.stages.fetch",
        ):
            earlier.setattr(f"{module}.FINGERPRINT", "of an earlier release")
        while "no more data" not in (message := _ended(loop.turn)):
            pass
    champion = loop.champion()
    message = loop.turn()
    assert "promoted: the champion cannot serve: the model was trained with features of an earlier release" in message
    assert loop.champion() != champion
    assert _ended(loop.turn) == "the data API has no more data"


def test_champion_that_mlflow_lost_is_restored(loop: Loop) -> None:
    first = loop.turn()
    client, name = mlflow.MlflowClient(), loop.name
    trained = client.get_model_version(name, "1")

    # before the decision on a new batch, so that its model is compared with the champion
    client.delete_registered_model(name)
    assert "MAE $" in loop.turn()
    ledger = loop.context.ledger
    moves = [(move["kind"], move["reason"]) for move in ledger.champions()]
    assert first == f"version 1 promoted: {moves[0][1]}"
    assert moves[1] == ("rollback", "MLflow had lost the alias champion of version 1")
    restored = client.get_model_version(name, "1")
    assert restored.run_id == trained.run_id
    assert restored.tags.items() >= {tag: trained.tags[tag] for tag in (MANIFEST_TAG, "fingerprint")}.items()
    assert ledger.is_champion("1", trained.tags[MANIFEST_TAG])

    # at the end of the data
    loop.drain()
    champion = client.get_model_version_by_alias(name, "champion")
    client.delete_registered_model_alias(name, "champion")
    assert _ended(loop.turn) == (
        f"the data API has no more data; version {champion.version} is the champion again, because MLflow had lost the "
        f"alias champion of version {champion.version}"
    )
    assert client.get_model_version_by_alias(name, "champion").run_id == champion.run_id
    assert _ended(loop.turn) == "the data API has no more data"

    # never silently
    Tracking(loop.context.settings, loop.context.registry).delete_bundle(str(champion.run_id), "2026-01-01")
    client.delete_registered_model_alias(name, "champion")
    with pytest.raises(RegistryError, match="no champion, and the last one cannot be restored: the bundle of run"):
        loop.turn()


def _ended(act: Callable[[], str]) -> str:
    try:
        return act()
    except SkipRun as skipped:
        return str(skipped)


@pytest.mark.parametrize("failed", ["train", "evaluate", "promote"])
def test_what_failed_after_the_decision_is_resumed_at_the_end_of_the_data(loop: Loop, failed: str) -> None:
    loop.settings |= EASY
    while _tolerant(loop.settle) != BATCHES[-2]:
        pass
    batch = loop.learn()
    assert batch == BATCHES[-1]
    done: dict[str, Any] = {"batch": batch}
    for name in WON[WON.index("train") : WON.index(failed)]:
        done |= loop.stage(name, done)
    for _ in range(2):
        assert loop.stage("fetch", {})["summary"] == (
            f"batch {batch} was to be trained, but an earlier run failed before its verdict: this run continues with it"
        )
    assert loop.turn().startswith("version 1 promoted")
    if "run_id" in done:
        assert loop.context.ledger.promotion(done["run_id"]), "the finished training was used"
    assert _ended(loop.turn) == "the data API has no more data"


def test_decision_of_an_interrupted_attempt_is_logged_once(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = loop.stage("fetch", {})["batch"]
    for name in ("validate", "split"):
        loop.stage(name, {"batch": batch})
    with monkeypatch.context() as patched:
        patched.setattr(type(loop.context.ledger), "decide", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loop.stage("decide", {"batch": batch})
    loop.stage("decide", {"batch": batch})
    [run] = mlflow.search_runs(experiment_names=[loop.name], output_format="list")
    assert (run.info.run_name, run.info.status) == ("batch-0000-decision", "FINISHED")


def test_skipped_batch_gets_a_report(loop: Loop) -> None:
    loop.turn()
    for _ in range(2):
        loop.settle()
    assert loop.stage("fetch", {})["batch"] == 3
    assert loop.stage("fetch", {})["summary"] == "batch 3 of an earlier run is stored only: this run continues with it"
    for name in ("validate", "split"):
        loop.stage(name, {"batch": 3})
    done = loop.process("decide", {"batch": 3})
    assert (done.code, done.result["decision"], done.result["next"]) == (0, "skip", "skip")
    assert done.summary.startswith("skip: batch 3 has 41 clean rows, fewer than 200")
    assert loop.stage("decide", {"batch": 3}) == done.result
    report = loop.stage("report", {"batch": 3})
    assert report["summary"] == f"{done.summary}; the champion is version 1"


@pytest.mark.parametrize("after", [1, 5], ids=lambda after: f"batch {after}")
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "delay", "seconds": 0.2}, None),
        ({"kind": "error"}, "refused group 1 with 500"),
        ({"kind": "error", "calls": 3}, "refused group 1 with 500"),
        ({"kind": "truncated"}, "is not JSON"),
        ({"kind": "truncated", "calls": 2}, "is not JSON"),
        ({"kind": "schema"}, "lacks price, bed (unknown fields: beds, precio)"),
        ({"kind": "repeat"}, None),
        ({"kind": "repeat", "calls": 2}, "is stored already, with the same content"),
        ({"kind": "timeout", "seconds": 3}, "sent nothing for 2 s. Its cursor may have moved"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_fault_of_the_data_api_neither_loses_nor_duplicates_rows(
    loop: Loop, fault: dict[str, Any], message: str | None, after: int
) -> None:
    if fault["kind"] == "timeout":  # otherwise a slow machine would cause a timeout
        loop.settings["data_api_timeout_seconds"] = "2"
    add_faults = f"{loop.platform.datasource_url}/admin/faults"
    while (batch := _tolerant(loop.settle)) is None or batch < after - 1:
        pass
    HTTP.post(add_faults, json=fault).raise_for_status()
    answers = loop.drain()
    assert message is None or any(message in answer for answer in answers), answers
    assert answers[-1] == "the data API has no more data"
    usable = [row for row in loop.context.ledger.history() if row["valid"]]
    assert sorted(row["batch_number"] for row in usable) == list(BATCHES), "a batch is missing or stored twice"
    for row in usable:
        number = row["batch_number"]
        sent = synthetic.generate(number, DatasourceSettings().seed, SCALE)[0]
        assert rows.read(loop.context.store, loop.context.ledger.batch(number).raw_key).equals(sent)
        clean = [rows.read_batch(loop.context.store, number, name).height for name in rows.SPLITS]
        assert sum(clean) == row["valid"] == row["rows"] - row["quarantined"] - row["duplicates"]
    assert loop.context.ledger.gaps() == []
    assert loop.context.ledger.trainable_batches() == list(BATCHES)


def _tolerant(learn: Callable[[], int]) -> int | None:
    try:
        return learn()
    except SkipRun as skipped:
        return int(skipped.facts["batch"])
