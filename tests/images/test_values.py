"""The images file of an environment is read as it was written, and changes only for images that changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.common.console import Failure
from ci.images import values
from ci.images.values import Entry

OLD = Entry("0.1.0-" + "0" * 12, "sha256:" + "0" * 64, "a" * 40)
NEW = Entry("0.1.0-" + "1" * 12, "sha256:" + "1" * 64, "b" * 40)


def at(commit: str, entry: Entry = OLD) -> Entry:
    return Entry(entry.tag, entry.digest, commit)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "values").mkdir()
    images = {"ui": NEW, "minio": Entry("0.1.0-" + "2" * 12)}
    path = values.write("vm", images, tmp_path)
    assert values.read("vm", tmp_path) == images
    assert path.read_text().startswith("# Written by")
    assert path.read_text() == values.render(dict(reversed(images.items()))), "the order is always the same"


def test_without_a_file_there_are_no_images(tmp_path: Path) -> None:
    assert values.read("vm", tmp_path) == {}


@pytest.mark.parametrize("text", ["", "global: {}", "global: {images: [ui]}", "global: {images: {ui: {name: x}}}", "{"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "values").mkdir()
    values.file("vm", tmp_path).write_text(text)
    message = r"values/images-vm\.yaml does not have the format of `make images` .* restore it from Git"
    with pytest.raises(Failure, match=message):
        values.read("vm", tmp_path)


@pytest.mark.parametrize(
    ("before", "built", "wanted"),
    [
        pytest.param(OLD, NEW, NEW, id="other tag"),
        pytest.param(OLD, at("b" * 40), OLD, id="same inputs in another commit, as after a rebase"),
        pytest.param(OLD, at("b" * 40 + "-dirty"), OLD, id="same inputs, not committed now"),
        pytest.param(at("a" * 40 + "-dirty"), at("b" * 40), at("b" * 40), id="committed since"),
        pytest.param(at("unknown"), at("b" * 40), at("b" * 40), id="history found since"),
        pytest.param(at(""), at("b" * 40), at("b" * 40), id="file of before"),
        pytest.param(at("a" * 40 + "-dirty"), at("b" * 40 + "-dirty"), at("a" * 40 + "-dirty"), id="never committed"),
        pytest.param(OLD, Entry(OLD.tag, NEW.digest, "b" * 40), Entry(OLD.tag, NEW.digest, "b" * 40), id="other bytes"),
    ],
)
def test_an_image_as_before_keeps_its_commit(before: Entry, built: Entry, wanted: Entry) -> None:
    assert values.kept({"ui": before, "gone": OLD}, {"ui": built, "new": NEW}) == {"ui": wanted, "new": NEW}
