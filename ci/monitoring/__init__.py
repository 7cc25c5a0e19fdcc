"""Generates the dashboard and the alert rules of charts/monitoring, with metric names from `core.metrics`."""

from ci.monitoring.panels import panel_queries as dashboard_queries

__all__ = ["dashboard_queries"]
