"""Copies the descriptions of a chart's values.yaml into its values.schema.json, so that editors show them."""

from __future__ import annotations

import json
from typing import Any


def with_descriptions(schema: str, descriptions: dict[str, str]) -> str:
    """A values.schema.json whose properties carry these descriptions, by dotted path of the key.

    A property without one keeps the description that it has: requests and limits, and the shared definitions.
    """
    document: dict[str, Any] = json.loads(schema)
    _describe(document, descriptions, "")
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _describe(schema: dict[str, Any], descriptions: dict[str, str], path: str) -> None:
    properties: dict[str, Any] = schema.get("properties", {})
    for key, below in properties.items():
        if text := descriptions.get(f"{path}{key}"):
            properties[key] = below = {"description": text, **{k: v for k, v in below.items() if k != "description"}}
        _describe(below, descriptions, f"{path}{key}.")
