"""The bench of servers: what it sends, what it refuses to measure, and what its ratios are ratios of."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

from ci.console import Failure
from tests.bench.serving import __main__ as program
from tests.bench.serving import load, overload, report, servers
from tests.bench.serving.environments import PEERS, PREDICTOR, SAME
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
def test_a_peer_has_the_platforms_libraries_hash_pinned_and_names_no_registry(lock: Path) -> None:
    ours = pins(PREDICTOR.parents[1] / "requirements-dev.lock")
    found = pins(lock)
    assert found["lightgbm"] == pins(PREDICTOR / "requirements.lock")["lightgbm"]
    assert {name: found[name] for name in SAME if name in found} == {name: ours[name] for name in SAME if name in found}
    assert "://" not in lock.read_text()
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", lock.read_text(), flags=re.MULTILINE).strip())
    assert not [entry for entry in entries if "--hash=sha256:" not in entry]


def test_every_peer_has_a_lock() -> None:
    assert {server.name for server in OF_FEATURES} == {lock.parent.name for lock in LOCKS}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_carries_each_feature_to_the_last_bit(form: Form) -> None:
    body = form.encode(ROWS)
    if form.headers(body).get("Content-Type") == "application/octet-stream":
        head = int(form.headers(body)["Inference-Header-Content-Length"])
        assert json.loads(body[:head])["inputs"][0]["shape"] == [5, 18]
        found = np.frombuffer(body[head:], np.float32)
    elif form.headers(body).get("Content-Type") == "text/csv":
        found = np.array([line.split(",") for line in body.decode().splitlines()[1:]], np.float64)
    else:
        text = re.sub(r'"(name|shape|columns|datatype)":("[^"]*"|\[[^\]]*\])', "", body.decode())
        numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]
        found = np.array(numbers, np.float32 if "FP32" in form.name else np.float64)
    assert np.array_equal(found.reshape(MATRIX.shape).astype(np.float64), MATRIX.astype(np.float64))


def test_a_request_says_how_long_it_is() -> None:
    head, _, body = FORMS[0].request(ROWS).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body == FORMS[0].encode(ROWS)


ASKED = Form("form", "/", lambda _: b"", json.loads)
ASKS = Server("server", Path, lambda *_: None, (ASKED,), (ASKED,))


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (200, [0.0, 1 / 3, 2 / 3, 1.0, float(np.nextafter(4 / 3, 2))], "1 of 5 rows"),
        (200, [0.0, 1 / 3], "3 of 5 rows"),
        (500, "broken", "answered 500"),
    ],
)
def test_other_answers_than_the_boosters_are_not_measured(
    monkeypatch: pytest.MonkeyPatch, status: int, answer: object, told: str
) -> None:
    monkeypatch.setattr(httpx, "post", lambda *_, **__: httpx.Response(status, json=answer))
    with pytest.raises(Failure, match=told):
        load.check(1, ASKS, ASKED, ROWS, at_once=True)


def test_equal_answers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "post", lambda *_, **__: httpx.Response(200, json=ROWS.outputs.tolist()))
    load.check(1, ASKS, ASKED, ROWS, at_once=True)


def test_what_is_started_on_a_core_stays_there() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with load.on_core(core):
        inside = subprocess.run(["nproc"], capture_output=True, text=True, check=True).stdout
    assert (inside.strip(), os.sched_getaffinity(0)) == ("1", before)


def figures(
    rate: float, p99: float = 1, paced: float = 1, rows: float | None = None, pss: float = 100
) -> report.Figures:
    return report.Figures(rate, 1, p99, paced, 300, 200, pss, 1, 0.5, rows, rows)


def test_ratios_are_to_the_best_peer_in_each_figure_and_never_to_the_echo() -> None:
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


def test_without_peers_there_are_no_ratios_to_them() -> None:
    assert [goal.what for goal in report.goals({"predictor": [figures(1, pss=151)]})] == ["memory, shared pages once"]
    assert "MISSED" in report.judged(report.goals({"predictor": [figures(1, pss=151)]}))
    assert report.goals({"mlflow": [figures(1)]}) == []


def test_a_server_that_cannot_be_installed_is_in_the_table_and_ends_the_run_red(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Path:
        raise Failure("no wheel for this machine")

    monkeypatch.setattr(load, "prepare", lambda: None)
    monkeypatch.setattr(program, "train", lambda *_: None)
    monkeypatch.setitem(program.SERVERS, "mlserver", Server("mlserver", refuse, lambda *_: None, (ASKED,), ()))
    with pytest.raises(Failure, match=r"not measured: mlserver: cannot be installed: no wheel"):
        program.bench(["mlserver"], 1, 1, 1, None)
    assert "| mlserver | FAILED: cannot be installed: no wheel for this machine |" in capsys.readouterr().out


def test_waits_of_answers_come_from_their_counts() -> None:
    """So many answers (second) after so many hundredths of a millisecond (first)."""
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
