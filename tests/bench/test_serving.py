"""The bench of servers: its requests, its checks, and its ratios."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

from ci.common.console import Failure
from tests.bench.serving import comparison, load, overload, report, servers
from tests.bench.serving.environments import MLFLOW, PEERS, PREDICTOR, SAME
from tests.bench.serving.model import Rows
from tests.bench.serving.servers import Form, Server

MATRIX = np.random.default_rng(3).normal(size=(5, 18)).astype(np.float32)
ROWS = Rows([{"house_size": float(at)} for at in range(5)], MATRIX, np.arange(5) / 3, np.arange(5) * 1e5)
LOCKS = sorted(PEERS.glob("*/requirements.lock"))
OF_FEATURES = [server for server in servers.PEER_SERVERS if server.name != "mlflow-listings"]
FORMS = [form for server in OF_FEATURES for form in (*server.one, *server.many)]


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.parent.name)
def test_lock_of_a_peer_pins_the_same_libraries_by_hash_without_a_registry(lock: Path) -> None:
    ours = pins(MLFLOW / "requirements.lock") | pins(PREDICTOR / "requirements.lock")
    result = pins(lock)
    assert result["lightgbm"] == pins(PREDICTOR / "requirements.lock")["lightgbm"]
    assert {name: result[name] for name in SAME if name in result} == {
        name: ours[name] for name in SAME if name in result
    }
    assert "://" not in lock.read_text()
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", lock.read_text(), flags=re.MULTILINE).strip())
    assert not [entry for entry in entries if "--hash=sha256:" not in entry]


def test_every_peer_has_a_lock() -> None:
    assert {server.name for server in OF_FEATURES} == {lock.parent.name for lock in LOCKS}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_encodes_each_feature_to_the_last_bit(form: Form) -> None:
    body = form.encode(ROWS)
    if form.headers(body).get("Content-Type") == "application/octet-stream":
        head = int(form.headers(body)["Inference-Header-Content-Length"])
        assert json.loads(body[:head])["inputs"][0]["shape"] == [5, 18]
        result = np.frombuffer(body[head:], np.float32)
    elif form.headers(body).get("Content-Type") == "text/csv":
        result = np.array([line.split(",") for line in body.decode().splitlines()[1:]], np.float64)
    else:
        text = re.sub(r'"(name|shape|columns|datatype)":("[^"]*"|\[[^\]]*\])', "", body.decode())
        numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]
        result = np.array(numbers, np.float32 if "FP32" in form.name else np.float64)
    assert np.array_equal(result.reshape(MATRIX.shape).astype(np.float64), MATRIX.astype(np.float64))


def test_request_has_its_content_length() -> None:
    head, _, body = FORMS[0].request(ROWS).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body == FORMS[0].encode(ROWS)


ASKED = Form("form", "/", lambda _: b"", json.loads)
ASKS = Server("server", Path, lambda *_: None, (ASKED,), (ASKED,))


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (200, [0.0, 1 / 3, 2 / 3, 1.0, float(np.nextafter(4 / 3, 2))], "1 of 5 rows"),
        (200, [0.0, 1 / 3], "3 of 5 rows"),
        (500, "broken", "answered 500"),
    ],
)
def test_server_with_wrong_answers_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, status: int, answer: object, message: str
) -> None:
    monkeypatch.setattr(httpx, "post", lambda *_, **__: httpx.Response(status, json=answer))
    with pytest.raises(Failure, match=message):
        load.check(1, ASKS, ASKED, ROWS, at_once=True)


def test_server_with_equal_answers_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "post", lambda *_, **__: httpx.Response(200, json=ROWS.outputs.tolist()))
    load.check(1, ASKS, ASKED, ROWS, at_once=True)


def test_process_started_on_a_core_stays_there() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with load.on_core(core):
        inside = subprocess.run(["nproc"], capture_output=True, text=True, check=True).stdout
    assert (inside.strip(), os.sched_getaffinity(0)) == ("1", before)


def figures(
    rate: float, p99: float = 1, paced: float = 1, rows: float | None = None, pss: float = 100
) -> report.Figures:
    return report.Figures(rate, 1, p99, paced, 300, 200, pss, 1, 0.5, rows, rows)


def test_ratios_are_to_the_best_peer_in_each_figure_without_the_echo() -> None:
    measured = {
        "predictor": [figures(8_000, p99=2, paced=1.2, rows=1_000_000)] * 3,
        "echo": [figures(20_000, p99=0.1)] * 3,
        "fast": [figures(rate, p99=20, rows=50_000) for rate in (900, 1_000, 5_000)],
        "even": [figures(500, p99=10, rows=100_000)],
    }
    held = {goal.what.split(",")[0]: (round(goal.value, 3), goal.met) for goal in report.goals(measured)}
    assert held == {
        "requests/s": (8.0, True),
        "requests per core second": (8.0, True),
        "p99": (0.2, True),
        "rows/s in lists": (10.0, True),
        "rows per core second in lists": (10.0, True),
        "p50 at the pace": (1.2, True),
        "memory": (100, True),
    }


def test_no_peers_means_no_ratios() -> None:
    assert [goal.what for goal in report.goals({"predictor": [figures(1, pss=151)]})] == ["memory, shared pages once"]
    assert "MISSED" in report.judged(report.goals({"predictor": [figures(1, pss=151)]}))
    assert report.goals({"mlflow": [figures(1)]}) == []


def test_server_that_cannot_be_installed_is_in_the_table_and_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Path:
        raise Failure("no wheel for this machine")

    monkeypatch.setattr(load, "prepare", lambda: None)
    monkeypatch.setattr(comparison, "train", lambda *_: None)
    monkeypatch.setitem(comparison.SERVERS, "mlserver", Server("mlserver", refuse, lambda *_: None, (ASKED,), ()))
    with pytest.raises(Failure, match=r"not measured: mlserver: cannot be installed: no wheel"):
        comparison.bench(["mlserver"], 1, 1, 1, None)
    assert "| mlserver | FAILED: cannot be installed: no wheel for this machine |" in capsys.readouterr().out


def test_latency_is_computed_from_a_histogram() -> None:
    """Each pair has hundredths of a millisecond, and the number of answers."""
    waits = load._waits([[700, 1], [20, 49], [100, 50]], 10)
    assert (waits.rate, waits.p50, waits.p99) == (10, 1.0, 1.0)
    assert load._waits([[700, 2], [20, 98]], 1).p99 == 7.0
    assert str(load._waits([], 1)) == str(load.Waits(0, np.nan, np.nan))


def test_overload_is_judged_by_the_medians_of_its_rounds() -> None:
    def one(half: float, over: float, memory: list[float]) -> overload.Round:
        none = load.Waits(0, np.nan, np.nan)
        seen = [load.Refusing(load.Waits(100, 1, p99), none, 0.9, 0.1) for p99 in (half, over)]
        return overload.Round(load.Loaded(100, 1, 2, 0.9, 0.1), *seen, memory)

    rounds = [one(4, 6, [100] * 8), one(4, 20, [100] * 4 + [110] * 4), one(5, 9, [100] * 8)]
    waits, memory = overload.goals(rounds)
    assert (waits.value, waits.met) == (1.8, True)
    assert (memory.value, memory.met) == (1, True)
    assert not overload.goals([rounds[1]])[0].met
    assert not overload.goals([rounds[1]])[1].met
    assert "| 5 times: 80 connections | 100 | 1.00 | 20.00 | 0 |  |  | 90% | 10% |" in overload.table(rounds)
