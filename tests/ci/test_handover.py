"""A handover removes the records of the former owner of the objects, and keeps the objects."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ci.argocd import handover

HELM, ARGO = handover.HELM, handover.ARGO


def metadata(*managers: str, annotations: tuple[str, ...] = ()) -> dict[str, Any]:
    """Metadata of an object whose fields these own."""
    return {
        "name": "one",
        "resourceVersion": "7",
        "annotations": {"kept/by-all": "1", **dict.fromkeys(annotations, "x")},
        "managedFields": [{"manager": name, "operation": "Apply", "fieldsV1": {}} for name in managers],
    }


def patched(before: dict[str, Any], changes: list[dict[str, Any]]) -> dict[str, Any]:
    """Metadata after a JSON patch of the operations that are used."""
    after = copy.deepcopy(before)
    for change in changes:
        *path, last = [part.replace("~1", "/") for part in change["path"].removeprefix("/metadata/").split("/")]
        place = after[path[0]] if path else after
        if change["op"] == "test":
            assert place[last] == change["value"]
        elif change["op"] == "remove":
            del place[last]
        else:
            place[last] = change["value"]
    return after


@pytest.mark.parametrize(("former", "next_owner"), [(HELM, ARGO), (ARGO, HELM)], ids=["helm", "argocd"])
def test_the_former_owner_leaves_no_trace_and_others_keep_theirs(former: Any, next_owner: Any) -> None:
    before = metadata(former[0], "kube-controller-manager", next_owner[0], annotations=(*former[1], *next_owner[1]))
    wanted = metadata("kube-controller-manager", next_owner[0], annotations=next_owner[1])
    assert patched(before, handover._changes(before, *former)) == wanted


def test_a_patch_is_refused_where_somebody_wrote_in_between() -> None:
    first, *_ = handover._changes(metadata("helm"), *HELM)
    assert first == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}


def test_what_nobody_left_behind_is_not_touched() -> None:
    assert handover._changes(metadata("argocd-controller"), *HELM) == []
    assert handover._changes({"name": "bare", "resourceVersion": "1"}, *HELM) == []
