"""Images reach a registry under their names, with the digests that the environments name."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci.bundle.make import Part, parts
from ci.bundle.push import command, push
from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.images import values
from ci.images.values import Entry
from tests.bundle.registry import registry
from tests.kit.image_archives import image

PART = Part("ghcr.io/house-platform/ui", "0.1.0-abc", f"sha256:{'a' * 64}", Path("/cache/ui-0.1.0-abc.tar"))
needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")


def test_skopeo_copies_the_archive_and_keeps_the_digest() -> None:
    assert command(PART, "registry.example/house") == [
        "skopeo", "copy", "--quiet", "--preserve-digests",
        "oci-archive:/cache/ui-0.1.0-abc.tar:0.1.0-abc", "docker://registry.example/house/ui:0.1.0-abc",
    ]  # fmt: skip


def test_plain_http_is_for_a_registry_of_this_machine_only() -> None:
    assert "--dest-tls-verify=false" in command(PART, "localhost:5000/house")
    assert "--dest-tls-verify=false" not in command(PART, "localhost.example:5000/house")


@needs_skopeo
def test_every_image_is_in_the_registry_with_its_digest(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    named = values.parse(lock.read_text(), "")
    with registry() as (host, held):
        own = parts(f"{host}/house", named, lock.parent)
        push(own, f"{host}/house")
        first = set(held)
        push(own, f"{host}/house")
        assert set(held) == first, "the second push adds something"
    for name, entry in named.items():
        for reference in (entry.tag, entry.digest):
            manifest = held[f"/v2/house/{name}/manifests/{reference}"]
            assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == entry.digest
        for layer in json.loads(manifest)["layers"]:
            assert f"/v2/house/{name}/blobs/{layer['digest']}" in held


@needs_skopeo
def test_registry_that_has_another_image_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("http_proxy", raising=False)
    image(tmp_path, "ui", "1", {})
    [part] = parts("x/y", {"ui": Entry("1", json.loads((tmp_path / "ui-1.json").read_text())["digest"])}, tmp_path)
    wrong = Part(part.repository, part.tag, f"sha256:{'b' * 64}", part.file)
    with registry() as (host, _), pytest.raises(Failure, match=r"does not have it \(404\)"):
        push([wrong], f"{host}/house")


@pytest.mark.parametrize("address", ["registry.example", "https://registry.example/house"])
def test_address_that_is_none_is_refused(address: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ci.bundle.push", "--registry", address],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "is not a registry with a path" in done.stderr) == (1, True)
