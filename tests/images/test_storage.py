"""buildah's storage holds what the next build starts from, and no image of an earlier change."""

from __future__ import annotations

import subprocess

import pytest

from ci.images import builders

LISTED = """localhost/house-platform/base:new
localhost/house-platform/base:old
localhost/house-platform/build:new
localhost/house-platform/environment-ui:new
localhost/house-platform/environment-ui:old
localhost/house-platform/ui:0.1.0-new
localhost/somebody/else:1
"""


@pytest.mark.parametrize(
    ("listed", "removed"), [(LISTED, ["base:old", "environment-ui:old", "ui:0.1.0-new"]), ("", None)]
)
def test_only_bases_and_environments_in_use_are_kept(
    monkeypatch: pytest.MonkeyPatch, listed: str, removed: list[str] | None
) -> None:
    called: list[tuple[str, ...]] = []

    def buildah(*words: str, **_: object) -> subprocess.CompletedProcess[str]:
        called.append(words)
        return subprocess.CompletedProcess(words, 0, listed, "")

    builder = builders.BuildahBuilder()
    builder._base, builder._builder = "localhost/house-platform/base:new", "localhost/house-platform/build:new"
    monkeypatch.setattr(builder, "_buildah", buildah)
    builder.keep_only({"house-platform/environment-ui:new"})
    gone = [words[2:] for words in called if words[0] == "rmi"]
    assert gone == ([tuple(f"localhost/house-platform/{name}" for name in removed)] if removed else [])
