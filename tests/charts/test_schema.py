"""Every object is valid for the Kubernetes API, without unknown fields, which it would drop silently."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import pytest

from tests.kit.rendering import VARIANTS, Object, name, objects

NEWEST = "1.36"


@pytest.fixture(scope="module")
def validation() -> Iterator[ModuleType]:
    """The package kubernetes_validate, which reads each schema once in this module.

    Its import takes about three seconds. Every pytest worker imports this file, but only one runs its tests.
    """
    import kubernetes_validate
    from kubernetes_validate import utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield kubernetes_validate


def _distinct() -> dict[str, Object]:
    """Different objects of all variants, by number and name. Most objects are the same in every variant."""
    distinct = {json.dumps(item, sort_keys=True): item for variant in VARIANTS for item in objects(variant)}
    return {f"{number:03d} {name(item)}": item for number, item in enumerate(distinct.values())}


@pytest.mark.parametrize("item", (distinct := _distinct()).values(), ids=distinct)
def test_object_is_valid(item: Object, validation: ModuleType) -> None:
    try:
        validation.validate(item, NEWEST, strict=True)
    except validation.ValidationError as invalid:
        where = ".".join(str(step) for step in invalid.absolute_path)
        pytest.fail(f"{name(item)}: {where}: {invalid.message}")


def test_unknown_field_is_invalid(validation: ModuleType) -> None:
    """Otherwise the tests above would pass for any object."""
    item = json.loads(json.dumps(next(item for item in objects("kind") if item["kind"] == "Deployment")))
    item["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(validation.ValidationError):
        validation.validate(item, NEWEST, strict=True)
