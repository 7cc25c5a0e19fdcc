"""Images that are written without a container tool are valid OCI archives, and equal recipes give equal bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci.cluster.registryless import oci_image
from ci.cluster.registryless.oci_image import LayerEntry, Recipe, write

NAME = "localhost/house-cluster/probe:1-0123456789ab"


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF and so on")
    entries = {
        "bin": LayerEntry(),
        "bin/probe": LayerEntry(file=program),
        "bin/sh": LayerEntry(link="probe"),
        "etc/passwd": LayerEntry(text="root:x:0:0\n", mode=0o644),
        "tmp": LayerEntry(mode=0o1777),
    }
    return Recipe(entries, entrypoint=("/bin/probe",), cmd=("serve",), user="65534:65534")


def blobs_and_index(archive: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    with tarfile.open(archive) as tar:
        files = {name: member.read() for name in tar.getnames() if (member := tar.extractfile(name))}
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    prefix = "blobs/sha256/"
    blobs = {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}
    return blobs, json.loads(files["index.json"])


def test_the_same_recipe_gives_the_same_bytes(recipe: Recipe, tmp_path: Path) -> None:
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    digest = write(NAME, recipe, first)
    entries = dict(reversed(recipe.entries.items()))
    moved = tmp_path / "elsewhere"
    moved.write_bytes(b"\x7fELF and so on")
    moved.chmod(0o600)
    entries["bin/probe"] = LayerEntry(file=moved)
    assert write(NAME, replace(recipe, entries=entries), second) == digest
    assert first.read_bytes() == second.read_bytes(), (
        "the image depends on the order, the location or the time of the files"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"user": ""},
        {"cmd": ()},
        {"entries": {"bin": LayerEntry()}},
        {"entries": {"bin": LayerEntry(mode=0o700)}},
    ],
    ids=str,
)
def test_another_recipe_gives_another_digest(change: dict[str, Any], recipe: Recipe, tmp_path: Path) -> None:
    assert write(NAME, replace(recipe, **change), tmp_path / "b.tar") != write(NAME, recipe, tmp_path / "a.tar")


def test_every_descriptor_matches_its_blob(recipe: Recipe, tmp_path: Path) -> None:
    write(NAME, recipe, tmp_path / "image.tar")
    blobs, index = blobs_and_index(tmp_path / "image.tar")
    manifest = json.loads(blobs[index["manifests"][0]["digest"].removeprefix("sha256:")])
    described = [*index["manifests"], manifest["config"], *manifest["layers"]]
    for descriptor in described:
        content = blobs[descriptor["digest"].removeprefix("sha256:")]
        assert descriptor["digest"] == "sha256:" + hashlib.sha256(content).hexdigest(), descriptor
        assert descriptor["size"] == len(content), descriptor
    assert {one["digest"].removeprefix("sha256:") for one in described} == set(blobs), "no descriptor refers to a blob"
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]], (
        "the layer is compressed, or another one"
    )


def test_the_index_names_the_image_by_tag_and_by_digest(recipe: Recipe, tmp_path: Path) -> None:
    digest = write(NAME, recipe, tmp_path / "image.tar")
    _, index = blobs_and_index(tmp_path / "image.tar")
    names = [one["annotations"]["io.containerd.image.name"] for one in index["manifests"]]
    assert names == [NAME, f"localhost/house-cluster/probe@{digest}"]
    assert {one["digest"] for one in index["manifests"]} == {digest}


def test_the_layer_and_the_config_match_the_recipe(recipe: Recipe, tmp_path: Path) -> None:
    write(NAME, recipe, tmp_path / "image.tar")
    blobs, index = blobs_and_index(tmp_path / "image.tar")
    manifest = json.loads(blobs[index["manifests"][0]["digest"].removeprefix("sha256:")])
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])["config"]
    assert (config["Entrypoint"], config["Cmd"], config["User"]) == (["/bin/probe"], ["serve"], "65534:65534")
    layer = blobs[manifest["layers"][0]["digest"].removeprefix("sha256:")]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        kinds = {one.name: ("dir" if one.isdir() else one.linkname or "file", oct(one.mode)) for one in tar}
        assert {one.uid for one in tar} == {0}
        assert {one.mtime for one in tar} == {0}
    assert kinds == {
        "bin": ("dir", "0o755"),
        "bin/probe": ("file", "0o755"),
        "bin/sh": ("probe", "0o755"),
        "etc/passwd": ("file", "0o644"),
        "tmp": ("dir", "0o1777"),
    }


def test_an_interrupted_write_leaves_no_archive(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = oci_image._put

    def interrupted(out: tarfile.TarFile, name: str, content: bytes) -> None:
        if name == "index.json":
            raise KeyboardInterrupt
        put(out, name, content)

    monkeypatch.setattr(oci_image, "_put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(NAME, recipe, tmp_path / "image.tar")
    assert not (tmp_path / "image.tar").exists()
