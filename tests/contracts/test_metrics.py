"""Our own metrics: services export every name of `core.metrics`, and dashboards, alerts or the web UI use it.

tests/monitoring/test_queries.py checks the other direction: dashboards and alerts use only metrics that exist.
"""

from __future__ import annotations

import re

from prometheus_client import REGISTRY

from ci.monitoring import dashboard_queries
from ci.monitoring.alerts import ALERTS
from ci.monitoring.files import FILES
from core import metrics
from predictor import metrics as exported  # registers the metrics
from tests.kit.metric_names import named_metrics, own_metrics
from ui import operations

# Metrics that no panel and no alert uses, each with the reason to export it.
UNUSED = {
    metrics.REQUESTS_REFUSED: "for load tests and capacity planning: shed load is intended, not a fault",
    metrics.CLIENT_REQUESTS: "for questions about one client: who sends how much, and who meets the limit",
    metrics.REQUESTS_IN_FLIGHT: "for load tests and capacity planning, with the refused requests",
    metrics.MODEL_REFUSED: "the alert ModelRefreshFailing counts outcomes; `/model` lists versions with the reason",
    metrics.PREDICTION_LOG_LAST_WRITE: "for diagnosis: the alert PredictionLogWaiting uses the bytes that wait",
    metrics.CHALLENGER_INFO: "for diagnosis of a shadow run: without a challenger its panels are empty",
    metrics.CHALLENGER_LOADED: "for diagnosis of a shadow run",
    metrics.CHALLENGER_REFRESH: "for diagnosis of a shadow run: a missing challenger harms no client",
    metrics.CHALLENGER_REFUSED: "for diagnosis of a shadow run: a missing challenger harms no client",
    metrics.SHADOW_ROWS: "for diagnosis of a shadow run: the panels show the compared prices themselves",
}


def declared() -> set[str]:
    """The names in `core.metrics`, without the suffixes of histograms."""
    return {value for value in vars(metrics).values() if isinstance(value, str) and value.startswith("house_")}


def base(name: str) -> str:
    """The declared name behind a series of a histogram, such as `..._bucket`."""
    return name if name in declared() else re.sub(r"_(bucket|sum|count)$", "", name)


def used() -> set[str]:
    """Our metrics in the expressions of dashboards, alerts and the page Operations."""
    expressions = [*dashboard_queries().values(), *(alert.expr for alert in ALERTS), *operations.QUERIES]
    return {base(name) for expression in expressions for name in named_metrics(expression) if name in own_metrics()}


def test_every_metric_is_used_or_listed_with_a_reason() -> None:
    idle = sorted(declared() - used() - UNUSED.keys())
    assert not idle, f"no panel and no alert uses {idle}: add one, or list the metrics in UNUSED with a reason"


def test_metrics_that_are_used_are_not_listed_as_unused() -> None:
    assert not (stale := sorted(UNUSED.keys() & used())), f"panels or alerts use {stale}: remove them from UNUSED"
    assert not (gone := sorted(UNUSED.keys() - declared())), f"core.metrics does not declare {gone}"


def test_predictor_exports_exactly_the_declared_metrics() -> None:
    assert exported.ledger_up, "the import registers the metrics"
    families = {family.name + ("_total" if family.type == "counter" else "") for family in REGISTRY.collect()}
    names = {name for name in families if name.startswith("house_")}
    assert names == declared(), (
        f"only exported: {sorted(names - declared())}; never exported: {sorted(declared() - names)}"
    )


def test_committed_files_use_declared_metrics_only() -> None:
    """The generated dashboard and rules, as the chart ships them."""
    for path in sorted(FILES.rglob("*")):
        if path.is_file():
            names = {base(name) for name in re.findall(r"\bhouse_[a-z_]+", path.read_text())} - {"house_price_pipeline"}
            assert names <= declared(), f"{path.name} uses {sorted(names - declared())}, which core.metrics lacks"
