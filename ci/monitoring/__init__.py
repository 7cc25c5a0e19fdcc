"""Dashboards and alert rules of charts/monitoring, generated from code that imports the metrics' names."""

from ci.monitoring.dashboard import panel_queries as dashboard_queries

__all__ = ["dashboard_queries"]
