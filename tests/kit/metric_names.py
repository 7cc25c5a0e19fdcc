"""Names of metrics: our own, and those in a PromQL expression."""

from __future__ import annotations

import re

from core import metrics

KEYWORDS = {
    "absent", "and", "bool", "by", "changes", "clamp_min", "count", "histogram_count", "histogram_quantile", "increase",
    "label_replace", "max", "min", "offset", "on", "or", "rate", "sum", "time", "unless", "vector",
}  # fmt: skip


def own_metrics() -> set[str]:
    """Names that core.metrics declares, with the suffixes that a histogram adds."""
    names = {value for value in vars(metrics).values() if isinstance(value, str) and value.startswith("house_")}
    return names | {f"{name}_{ending}" for name in names for ending in ("bucket", "sum", "count")}


def named_metrics(expression: str) -> set[str]:
    """Metric names in an expression: words outside strings, braces, brackets and label lists."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.sub(r"\b\d[\w.-]*", "", bare))) - KEYWORDS
