"""What a chart's README says: every key of its values, every Secret it reads, and nothing that is out of date."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ci.charts import CHARTS
from ci.docs import descriptions, outdated, rows
from tests.charts.components import environment, workloads_of
from tests.charts.rendering import COMPONENTS
from tests.charts.test_secrets import MADE, references

WITH_VALUES = (*COMPONENTS, "platform")


def keys(values: dict[str, Any], schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths of all keys that a chart has names for.

    Not those that users name (a bucket, a label) and not those of Kubernetes' requests and limits: the key above them
    is described as a whole.
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
    """One that stands above something else than a key would silently be in no table."""
    written = (CHARTS / chart / "values.yaml").read_text()
    assert len(rows(written)) == len(re.findall(r"# -- ", written)), f"charts/{chart}/values.yaml"


def test_readmes_are_current() -> None:
    assert outdated() == [], "run `make docs` and commit the result"


@pytest.mark.parametrize("chart", COMPONENTS)
def test_readme_lists_every_secret_that_the_chart_reads(chart: str) -> None:
    """With its keys; `<ROLE>_PASSWORD` stands for all that end so."""
    readme = (CHARTS / chart / "README.md").read_text()
    endings = tuple(re.findall(r"`<[A-Z]+>(_\w+)`", readme))
    for (namespace, secret), keys_read in secrets(chart).items():
        row = f"| `{secret}` " + ("" if namespace == "mlops" else f"in `{namespace}` ") + "|"
        assert row in readme, f"charts/{chart}/about.md: no row {row} for the Secret {namespace}/{secret}"
        missing = [key for key in keys_read if f"`{key}`" not in readme and not key.endswith(endings)]
        assert not missing, f"charts/{chart}/about.md: says nothing of {', '.join(missing)} in the Secret {secret}"


def secrets(chart: str) -> dict[tuple[str, str], set[str]]:
    """The Secrets that a component's pods read, and those of the pods that it starts, each with the keys it reads."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pods in workloads_of("everything", chart):
        for _, secret, key in references(pods):
            found[pods.namespace, secret] |= {key} if key else set(MADE[pods.namespace, secret])
    settings = environment("everything", chart)
    if "PIPELINE_ENV_SECRET" in settings:
        started = settings["PIPELINE_NAMESPACE"], settings["PIPELINE_ENV_SECRET"]
        found[started] |= set(MADE[started])
    return found


def test_descriptions_continue_over_lines_and_follow_nesting() -> None:
    written = "# -- One,\n# and more.\na:\n  # -- Two.\n  b: 1\n# no description\nc: 2\n# -- Three.\nd: [x]\n"
    assert descriptions(written) == {"a": "One, and more.", "a.b": "Two.", "d": "Three."}
    assert rows(written)[1:] == ["| `a.b` | integer | `1` | Two. |", "| `d` | list | `[x]` | Three. |"]
