"""Measures servers in alternating rounds, and prints the tables of the comparison."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from ci.common.console import Failure, say
from ci.local.processes import LocalPlatform, free_port
from core.ledger import Ledger
from tests.bench.serving import load, report
from tests.bench.serving.model import MANY, Rows, Served, train
from tests.bench.serving.servers import ECHO, OURS, PEER_SERVERS, Form, Server

SERVERS = {server.name: server for server in (OURS, ECHO, *PEER_SERVERS)}
TREES = 500
WARM_UP_SECONDS = 2
TRIAL_SECONDS = 1
TRIAL_LISTS = 3
BUSY = 0.95  # share of a core
CHECKED = 64  # rows that are checked one by one


@dataclasses.dataclass
class Bench:
    """One run of the bench: its settings and measurements."""

    local: LocalPlatform
    served: Served
    seconds: int
    measured: dict[str, list[report.Figures]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    programs: dict[str, Path] = dataclasses.field(default_factory=dict)
    chosen: dict[str, tuple[Form, Form | None]] = dataclasses.field(default_factory=dict)

    def install(self, servers: Sequence[Server]) -> None:
        """Create all environments. A server without one counts as failed."""
        for server in servers:
            try:
                self.programs[server.name] = server.install()
            except Failure as failure:
                self._note(server, f"cannot be installed: {failure}")

    def round(self, servers: Sequence[Server]) -> None:
        """Measure each server once. A server that fails is not measured again."""
        for server in servers:
            if server.name in self.failed:
                continue
            try:
                figures = self._measure(server)
            except (Failure, OSError, httpx.HTTPError, psutil.Error, LookupError, TypeError, ValueError) as failure:
                self._note(server, str(failure) or repr(failure))
            else:
                self.measured.setdefault(server.name, []).append(figures)
                rows = f", {figures.rows:,.0f} rows/s" if figures.rows else ""
                say(f"{server.name:<10} {figures.rate:8,.0f} requests/s   p99 {figures.p99_ms:7.2f} ms{rows}")

    def forms(self) -> dict[str, str]:
        """The form of the requests to each server, in words."""
        return {
            name: one.name if many is None or one.name in (many.name, many.name.removesuffix("s")) else
            f"{one.name}; lists: {many.name}" for name, (one, many) in self.chosen.items()
        }  # fmt: skip

    def _measure(self, server: Server) -> report.Figures:
        sample = self.served.rows[: load.SAMPLES]
        with self.running(server) as (port, pid):
            if server.name not in self.chosen:
                self.chosen[server.name] = self._choose(server, port, pid, sample)
            one, many = self.chosen[server.name]
            load.check(port, server, one, sample[:CHECKED], at_once=False)
            requests = requests_of(one, sample)
            load.loop(port, pid, requests, WARM_UP_SECONDS)
            closed = load.loop(port, pid, requests, self.seconds)
            paced = load.loop(port, pid, requests, self.seconds, load.PACE)
            rows: tuple[float | None, float | None] = None, None
            if many is not None:
                load.check(port, server, many, self.served.rows, at_once=True)
                rows = load.lists(port, pid, many, self.served.rows, self.seconds)
            memory = load.memory_mb(pid)
        if closed.generator > BUSY and closed.core < BUSY:
            raise Failure(f"the load generator was the limit: it took {closed.generator:.0%} of its core")
        return report.Figures(
            closed.rate, closed.p50, closed.p99, paced.p50, paced.rate, *memory, closed.core, closed.generator, *rows
        )

    def _choose(self, server: Server, port: int, pid: int, sample: Rows) -> tuple[Form | None, Form | None]:
        """The fastest form for one row, and for a list, by processor time."""

        def of_one(form: Form) -> float:
            load.check(port, server, form, sample[:CHECKED], at_once=False)
            seen = load.loop(port, pid, requests_of(form, sample), TRIAL_SECONDS)
            return seen.rate / seen.core

        def of_many(form: Form) -> float:
            load.check(port, server, form, self.served.rows, at_once=True)
            return load.lists(port, pid, form, self.served.rows, seconds=0, least=TRIAL_LISTS)[1]

        return _fastest(server, server.one, of_one), _fastest(server, server.many, of_many)

    @contextmanager
    def running(self, server: Server) -> Iterator[tuple[int, int]]:
        """Port and process id of the running server. All its processes are stopped afterwards."""
        port = free_port()
        try:
            with load.on_core(load.SERVER_CORE):
                server.start(self.local, self.programs[server.name], self.served, port)
            yield port, self.local.pid(server.name)
        finally:
            children: list[psutil.Process] = []
            with suppress(StopIteration, psutil.NoSuchProcess):  # it never started, or has ended
                children = load.tree(self.local.pid(server.name))[1:]
            self.local.stop(server.name)
            for process in children:  # some servers leave child processes
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(children, timeout=10)

    def _note(self, server: Server, why: str) -> None:
        self.failed[server.name] = why
        say(f"{server.name} FAILED: {why}")


def _fastest(server: Server, forms: Sequence[Form], measure: Callable[[Form], float]) -> Form | None:
    if len(forms) < 2:
        return next(iter(forms), None)
    rates = {form: measure(form) for form in forms}
    rates_text = ", ".join(f"{form.name} {rate:,.0f}" for form, rate in rates.items())
    say(f"{server.name}, each core second: {rates_text}")
    return max(forms, key=lambda form: rates[form])


def requests_of(form: Form, sample: Rows) -> list[bytes]:
    """One request per row."""
    return [form.request(sample[at : at + 1]) for at in range(len(sample.listings))]


def bench(names: Sequence[str], seconds: int, rounds: int, trees: int, file: Path | None) -> None:
    """Measure these servers, print the tables, and write all figures to `file`.

    Raises:
        Failure: a server could not be installed, answered wrongly, or failed; the others were measured.
    """
    load.prepare()
    servers = [SERVERS[name] for name in names]
    with tempfile.TemporaryDirectory() as name, LocalPlatform(Path(name)) as local:
        served = train(Path(name), trees)
        run = Bench(local, served, seconds)
        run.install(servers)
        if OURS in servers:  # its predictions are logged, as in the cluster
            with load.on_core(load.LOAD_CORE):
                Ledger(local.database("ledger")).ensure_schema()
        for _ in range(rounds):
            run.round(servers)
        held = report.goals(run.measured)
        print("\n" + report.table(run.measured, run.forms(), run.failed, load.PACE, MANY))
        print("\n" + report.judged(held))
        print("\nNoise: " + report.noise(run.measured))
        if file:
            figures_by_server = {
                "trees": trees,
                "seconds": seconds,
                "rounds": {server: [dataclasses.asdict(one) for one in all_] for server, all_ in run.measured.items()},
                "inputs": run.forms(),
                "goals": [dataclasses.asdict(goal) | {"met": goal.met} for goal in held],
                "failed": run.failed,
            }
            file.write_text(json.dumps(figures_by_server, indent=2) + "\n")
    if run.failed:
        raise Failure("not measured: " + "; ".join(f"{server}: {why}" for server, why in run.failed.items()))
