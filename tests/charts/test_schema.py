"""Every object is valid for the Kubernetes API, without unknown fields, which it would drop silently."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_validate import utils

from tests.kit.rendering import VARIANTS, Object, name, objects

NEWEST = "1.36"


@pytest.fixture(autouse=True, scope="module")
def _schemas_are_read_once() -> Any:
    read, utils.schema_contents = utils.schema_contents, cache(utils.schema_contents)
    yield
    utils.schema_contents = read


def _distinct() -> dict[str, Object]:
    """Different objects of all variants, by number and name. Most objects are the same in every variant."""
    distinct = {json.dumps(item, sort_keys=True): item for variant in VARIANTS for item in objects(variant)}
    return {f"{number:03d} {name(item)}": item for number, item in enumerate(distinct.values())}


@pytest.mark.parametrize("item", (distinct := _distinct()).values(), ids=distinct)
def test_object_is_valid(item: Object) -> None:
    try:
        kubernetes_validate.validate(item, NEWEST, strict=True)
    except kubernetes_validate.ValidationError as invalid:
        where = ".".join(str(step) for step in invalid.absolute_path)
        pytest.fail(f"{name(item)}: {where}: {invalid.message}")


def test_unknown_field_is_invalid() -> None:
    """Otherwise the tests above would pass for any object."""
    item = json.loads(json.dumps(next(item for item in objects("kind") if item["kind"] == "Deployment")))
    item["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(item, NEWEST, strict=True)
