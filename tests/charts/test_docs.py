"""A chart's README describes every key of its values and every Secret that it reads, and is current."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ci.checks.docs import descriptions, outdated, rows
from ci.deploy.charts import CHARTS
from tests.charts.components import environment, workloads_of
from tests.charts.secret_references import MADE, references
from tests.kit.rendering import COMPONENTS

WITH_VALUES = (*COMPONENTS, "platform")


def keys(values: dict[str, Any], schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths of all keys that the chart itself defines.

    Keys that users choose (a bucket, a label) and Kubernetes' requests and limits are not included: the description of
    their parent covers them.
    """
    for key, value in values.items():
        yield f"{path}{key}"
        inner = schema.get("properties", {}).get(key, {})
        if reference := inner.get("$ref", ""):
            inner = definitions[reference.removeprefix("#/definitions/")]
        if isinstance(value, dict) and inner.get("additionalProperties") is False and "requests" not in value:
            yield from keys(value, inner, definitions, f"{path}{key}.")


@pytest.mark.parametrize("chart", WITH_VALUES)
def test_every_key_is_described(chart: str) -> None:
    written = (CHARTS / chart / "values.yaml").read_text()
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    wanted = set(keys(yaml.safe_load(written), schema, schema.get("definitions", {})))
    missing = sorted(wanted - descriptions(written).keys())
    assert not missing, f"charts/{chart}/values.yaml: no `# -- ` line above {', '.join(missing)}"


@pytest.mark.parametrize("chart", WITH_VALUES)
def test_no_description_is_lost(chart: str) -> None:
    """A description that is not directly above a key would silently be in no table."""
    written = (CHARTS / chart / "values.yaml").read_text()
    assert len(rows(written)) == len(re.findall(r"# -- ", written)), f"charts/{chart}/values.yaml"


def test_generated_files_are_current() -> None:
    assert outdated() == [], "run `make docs` and commit the result"


@pytest.mark.parametrize("chart", COMPONENTS)
def test_readme_lists_every_secret_that_the_chart_reads(chart: str) -> None:
    """And its keys. `<ROLE>_PASSWORD` stands for all keys with this ending."""
    readme = (CHARTS / chart / "README.md").read_text()
    endings = tuple(re.findall(r"`<[A-Z]+>(_\w+)`", readme))
    for (namespace, secret), keys_read in secrets(chart).items():
        row = f"| `{secret}` " + ("" if namespace == "mlops" else f"in `{namespace}` ") + "|"
        assert row in readme, f"charts/{chart}/about.md: no row {row} for the Secret {namespace}/{secret}"
        missing = [key for key in keys_read if f"`{key}`" not in readme and not key.endswith(endings)]
        assert not missing, f"charts/{chart}/about.md: does not mention {', '.join(missing)} of the Secret {secret}"


def secrets(chart: str) -> dict[tuple[str, str], set[str]]:
    """Secrets that a component's pods, and the pods that it starts, read, each with the keys."""
    keys_read: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pods in workloads_of("everything", chart):
        for _, secret, key in references(pods):
            keys_read[pods.namespace, secret] |= {key} if key else set(MADE.get((pods.namespace, secret), ()))
    settings = environment("everything", chart)
    if "PIPELINE_ENV_SECRET" in settings:
        started = settings["PIPELINE_NAMESPACE"], settings["PIPELINE_ENV_SECRET"]
        keys_read[started] |= set(MADE[started])
    return keys_read


def test_descriptions_continue_over_lines_and_follow_nesting() -> None:
    written = "# -- One,\n# and more.\na:\n  # -- Two.\n  b: 1\n# no description\nc: 2\n# -- Three.\nd: [x]\n"
    assert descriptions(written) == {"a": "One, and more.", "a.b": "Two.", "d": "Three."}
    assert rows(written)[1:] == ["| `a.b` | integer | `1` | Two. |", "| `d` | list | `[x]` | Three. |"]


def undescribed(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths of the properties of a schema that have no description, definitions included."""
    for key, inner in schema.get("properties", {}).items():
        if "description" not in inner:
            yield f"{path}{key}"
        yield from undescribed(inner, f"{path}{key}.")
    for name, definition in schema.get("definitions", {}).items():
        yield from undescribed(definition, f"definition {name}.")


@pytest.mark.parametrize("chart", WITH_VALUES)
def test_every_property_of_the_schema_is_described(chart: str) -> None:
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    missing = list(undescribed(schema))
    assert not missing, f"charts/{chart}/values.schema.json: no description of {', '.join(missing)}"
