"""Renders the dashboard `House price platform` as JSON for Grafana."""

from __future__ import annotations

import itertools
import json
from typing import Any

from grafana_foundation_sdk.builders import common as commons
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from ci.monitoring.panels import ROWS, Panel

UID = "house-price-platform"
# The uid under which the chart provisions Prometheus as a datasource.
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
PANEL_HEIGHT = 7


def build() -> dict[str, Any]:
    """The dashboard, as JSON for Grafana."""
    board = (
        dashboards.Dashboard("House price platform")
        .uid(UID)
        .description("The price service, its live accuracy, the pipeline, and the platform that they run on.")
        .tags(["house-platform"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    numbers = itertools.count(1)
    for title, panels in ROWS.items():
        board.with_row(dashboards.Row(title).id(next(numbers)))
        for panel in panels:
            board.with_panel((_lines(panel) if panel.kind == "lines" else _figure(panel)).id(next(numbers)))
    built: dict[str, Any] = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    return built


def _targets(panel: Panel, instant: bool) -> list[Any]:
    targets = []
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        target = (
            prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(PROMETHEUS)
        )
        targets.append(target.instant() if instant else target.range())
    return targets


def _lines(panel: Panel) -> timeseries.Panel:
    return (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(PROMETHEUS)
        .targets(_targets(panel, instant=False))
        .span(panel.width)
        .height(PANEL_HEIGHT)
        .min(0)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            commons.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(commons.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )


def _figure(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(PROMETHEUS)
        .targets(_targets(panel, instant=True))
        .span(panel.width)
        .height(PANEL_HEIGHT)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.NONE)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(commons.ReduceDataOptions().calcs(["lastNotNull"]))
    )
