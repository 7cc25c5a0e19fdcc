"""containerd resolves an image by tag and by digest, and the values file of the charts has both."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci.common.console import Failure
from ci.images import actions, archive, store
from ci.images.store import Built

REPOSITORY = "localhost/house-platform/ui"
TAG = "0.1.0-0123456789ab"
DIGEST = "sha256:" + "ab" * 32
COMMIT = "c" * 40


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """An OCI layout as buildah writes it, with blobs that nobody reads."""
    folder = tmp_path / "layout"
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (blobs / ("ab" * 32)).write_text("{}")
    manifest = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": DIGEST, "size": 7}
    manifest["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return folder


def index_of(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as content:
        member = content.extractfile("index.json")
        assert member
        return dict(json.load(member))


def test_one_image_has_a_record_for_its_tag_and_one_for_its_digest(layout: Path, tmp_path: Path) -> None:
    assert archive.pack(layout, tmp_path / "ui.tar", REPOSITORY, TAG) == DIGEST
    descriptors = index_of(tmp_path / "ui.tar")["manifests"]
    names = [descriptor["annotations"]["io.containerd.image.name"] for descriptor in descriptors]
    assert names == [f"{REPOSITORY}:{TAG}", f"{REPOSITORY}@{DIGEST}"]
    without_names = [{k: v for k, v in descriptor.items() if k != "annotations"} for descriptor in descriptors]
    assert without_names[0] == without_names[1], "both records must be of the same image"


def test_the_same_layout_gives_the_same_bytes(layout: Path, tmp_path: Path) -> None:
    original = (layout / "index.json").read_text()
    archive.pack(layout, tmp_path / "first.tar", REPOSITORY, TAG)
    (layout / "index.json").write_text(original)
    (layout / "oci-layout").touch()
    archive.pack(layout, tmp_path / "second.tar", REPOSITORY, TAG)
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_the_charts_get_tag_digest_and_commit_and_none_of_them_empty(
    tmp_path: Path,
) -> None:
    (tmp_path / "values").mkdir()
    built = [Built("ui", TAG, DIGEST, 1, 0, tmp_path, COMMIT), Built("minio", TAG, "", 1, 0, tmp_path)]
    written = yaml.safe_load(store.write_values(built, "kind", tmp_path).read_text())
    assert written == {
        "global": {"images": {"ui": {"tag": TAG, "digest": DIGEST, "commit": COMMIT}, "minio": {"tag": TAG}}}
    }


def test_only_what_the_cluster_lacks_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = "localhost/house-platform"
    there, lacking, rebuilt = (
        Built(name, TAG, DIGEST, 1, 0, tmp_path / f"{name}.tar") for name in ("ui", "minio", "pipeline")
    )
    other = {f"{registry}/pipeline:{TAG}", f"{registry}/pipeline@sha256:another-build-of-the-same-inputs"}
    present = {f"{registry}/ui:{TAG}", f"{registry}/ui@{DIGEST}", *other}
    imported: list[Path] = []
    monkeypatch.setattr("ci.cluster.present_images", lambda: present)
    monkeypatch.setattr("ci.cluster.import_archives", imported.extend)
    assert actions.load([there, lacking, rebuilt], registry) == 2
    assert imported == [lacking.file, rebuilt.file]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Failure, match=r"unknown image airflwo; the names are pipeline, predictor"):
        actions.build(["airflwo"], "localhost/house-platform")
