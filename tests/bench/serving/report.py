"""Makes tables of the measurements: medians of the rounds, their spread, ratios, and goals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

OURS, ECHO = "predictor", "echo"


@dataclass(frozen=True)
class Figures:
    """One round of one server. None means not applicable."""

    rate: float  # requests per second, closed loop
    p50_ms: float
    p99_ms: float
    paced_p50_ms: float
    paced_rate: float  # requests per second that were reached in the paced run
    rss_mb: float  # after all runs; memory that processes share counts once per process
    pss_mb: float  # like rss_mb, but shared memory counts once, as in the limit of a pod
    core: float  # share of its core that the server used in the closed loop
    generator: float  # share of the other core that the load generator used
    rows: float | None = None  # rows per second, in lists
    rows_of_core: float | None = None  # rows per core second, in lists

    @property
    def of_core(self) -> float:
        """Requests per core second, which is fairer if other processes use the core, too."""
        return self.rate / self.core


@dataclass(frozen=True)
class Goal:
    """A ratio or a size, and its limit."""

    what: str
    value: float
    limit: float
    at_least: bool
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the value meets the limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


Rounds = Mapping[str, Sequence[Figures]]


def medians(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    columns = {each.name: [getattr(figures, each.name) for figures in rounds] for each in fields(Figures)}
    return Figures(**{name: None if None in values else statistics.median(values) for name, values in columns.items()})


def spread(values: Sequence[float]) -> float:
    """Spread of the rounds, as a share of their median."""
    return (max(values) - min(values)) / statistics.median(values)


def goals(measured: Rounds) -> list[Goal]:
    """The goals for the measured servers. Each ratio is to the best peer in that figure."""
    figures_by_server = {name: medians(rounds) for name, rounds in measured.items()}
    ours, echo = figures_by_server.pop(OURS, None), figures_by_server.pop(ECHO, None)
    peers = list(figures_by_server.values())
    held: list[Goal] = []
    if ours and peers:
        best = max(peer.of_core for peer in peers)
        held += [
            Goal("requests/s, of the best peer's", ours.rate / max(peer.rate for peer in peers), 5, True, "x"),
            Goal("requests per core second, of the best peer's", ours.of_core / best, 5, True, "x"),
            Goal("p99, of the best peer's", ours.p99_ms / min(peer.p99_ms for peer in peers), 0.25, False, "x"),
        ]
        for what, figure in (("rows/s", "rows"), ("rows per core second", "rows_of_core")):
            mine, theirs = getattr(ours, figure), [getattr(peer, figure) for peer in peers if getattr(peer, figure)]
            if mine and theirs:
                held.append(Goal(f"{what} in lists, of the best peer's", mine / max(theirs), 5, True, "x"))
    if ours and echo:
        held.append(Goal("p50 at the pace, of the echo's", ours.paced_p50_ms / echo.paced_p50_ms, 1.3, False, "x"))
    if ours:
        held.append(Goal("memory, shared pages once", ours.pss_mb, 150, False, " MB"))
    return held


def table(measured: Rounds, forms: Mapping[str, str], failed: Mapping[str, str], pace: int, many: int) -> str:
    """A Markdown table of medians; the spread is that of requests/s. Servers that failed have their reason instead."""
    head = [
        "server",
        "input",
        "requests/s",
        "spread",
        "p50 ms",
        "p99 ms",
        f"p50 ms at {pace}/s",
        f"rows/s, lists of {many:,}",
        "RSS MB",
        "core",
        "requests per core second",
        "predictor's requests/s to its",
    ]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    figures_by_server = {name: medians(rounds) for name, rounds in measured.items()}
    for name, figures in sorted(figures_by_server.items(), key=lambda entry: -entry[1].rate):
        ratio = f"{figures_by_server[OURS].rate / figures.rate:.1f} x" if OURS in figures_by_server else ""
        line = [
            name,
            forms[name],
            f"{figures.rate:,.0f}",
            f"{spread([one.rate for one in measured[name]]):.0%}",
            f"{figures.p50_ms:.2f}",
            f"{figures.p99_ms:.2f}",
            f"{figures.paced_p50_ms:.3f}",
            f"{figures.rows:,.0f}" if figures.rows else "",
            f"{figures.rss_mb:.0f}",
            f"{figures.core:.0%}",
            f"{figures.of_core:,.0f}",
            ratio,
        ]
        lines.append(line)
    lines += [[name, f"FAILED: {' '.join(why.split())[:200]}", *[""] * (len(head) - 2)] for name, why in failed.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def judged(held: Sequence[Goal]) -> str:
    """One line per goal."""
    return "\n".join(
        f"{'met   ' if goal.met else 'MISSED'}  {goal.what}: {goal.value:.2f}{goal.unit}, "
        f"at {'least' if goal.at_least else 'most'} {goal.limit:g}{goal.unit}"
        for goal in held
    )


def noise(measured: Rounds) -> str:
    """Noise of the machine: the rounds of the echo, and the smallest share of its core that a server had."""
    least = min(((figures.core, name) for name, rounds in measured.items() for figures in rounds), default=None)
    parts = [f"requests/s of {name} differ by {spread([one.rate for one in rounds]):.0%} between rounds"
             for name, rounds in measured.items() if name == ECHO]  # fmt: skip
    if least:
        parts.append(
            f"the least share of its core that a server had in the closed loop was {least[0]:.0%} ({least[1]})"
        )
    busiest = max((figures.generator for rounds in measured.values() for figures in rounds), default=0)
    return "; ".join([*parts, f"the load generator took {busiest:.0%} of the other core at most"])
