"""Publishing pushes only missing images, joins two architectures under one name, and writes a release with both."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.deploy import release
from ci.images import publish, store, values
from ci.images.builders import Builder
from ci.images.catalog import IMAGES
from ci.images.store import Built
from tests.bundle.registry import registry
from tests.kit.image_archives import image

pytestmark = pytest.mark.skipif(not (shutil.which("skopeo") and shutil.which("buildah")), reason="skopeo and buildah")
WANTED = {"ui": "0.1.0-abc", "mlflow": "0.1.0-def"}


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, bytes]]]:
    """A registry on this machine, and what it holds."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with registry() as (host, held):
        yield f"{host}/house", held


class Machine:
    """A machine of an architecture: its builds are small images that say which it was."""

    def __init__(self, folder: Path, architecture: str, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.architecture, self.built = folder / architecture, architecture, 0
        self._patch = patch

    def push(self, address: str, wanted: dict[str, str]) -> int:
        def build(_: Builder, names: list[str], __: str) -> list[Built]:
            [name] = names
            self.built += 1
            content = {"srv/architecture": self.architecture.encode()}
            digest = image(self.folder, name, wanted[name], content, self.architecture)
            return [Built(name, wanted[name], digest, 0, 1, self.folder / f"{name}-{wanted[name]}.tar")]

        self.folder.mkdir(exist_ok=True)
        self._patch.setattr(store, "build", build)
        return publish.push(address, wanted, self.architecture)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Machine]:
    return [Machine(tmp_path, one, monkeypatch) for one in ("amd64", "arm64")]


BOTH = ["amd64", "arm64"]


def test_one_name_holds_both_architectures_and_is_pushed_once(
    house: tuple[str, dict[str, bytes]], machines: list[Machine]
) -> None:
    address, held = house
    assert [machine.push(address, WANTED) for machine in machines] == [2, 2]
    digests = publish.join(address, WANTED, BOTH)
    for name, tag in WANTED.items():
        index = json.loads(held[f"/v2/house/{name}/manifests/{tag}"])
        assert sorted(one["platform"]["architecture"] for one in index["manifests"]) == BOTH
        for one in index["manifests"]:
            assert f"/v2/house/{name}/manifests/{one['digest']}" in held, "an architecture that cannot be pulled"
        assert f"/v2/house/{name}/manifests/{digests[name]}" in held
    before = dict(held)
    assert [machine.push(address, WANTED) for machine in machines] == [0, 0]
    assert publish.join(address, WANTED, BOTH) == digests
    assert (held, [machine.built for machine in machines]) == (before, [2, 2]), (
        "an existing image was built again or its tag was moved"
    )
    assert not any(path.endswith("/latest") for path in held)


def test_only_an_image_whose_inputs_changed_is_built(
    house: tuple[str, dict[str, bytes]], machines: list[Machine]
) -> None:
    address, held = house
    for machine in machines:
        machine.push(address, WANTED)
    publish.join(address, WANTED, BOTH)
    assert [machine.push(address, {**WANTED, "ui": "0.1.0-new"}) for machine in machines] == [1, 1]
    assert "/v2/house/ui/manifests/0.1.0-new-arm64" in held


def test_a_missing_architecture_is_named_and_nothing_is_joined(
    house: tuple[str, dict[str, bytes]], machines: list[Machine]
) -> None:
    address, held = house
    machines[0].push(address, WANTED)
    with pytest.raises(Failure, match=r"lacks .*house/ui:0\.1\.0-abc-arm64: `publish push` on a machine"):
        publish.join(address, WANTED, BOTH)
    assert "/v2/house/ui/manifests/0.1.0-abc" not in held


def test_each_architecture_has_its_sbom(
    house: tuple[str, dict[str, bytes]], machines: list[Machine], tmp_path: Path
) -> None:
    address, _ = house
    for machine in machines:
        machine.push(address, WANTED)
    publish.join(address, WANTED, BOTH)
    published = publish.published(address, WANTED)
    written = publish.sboms(address, published, BOTH, tmp_path / "sbom")
    assert [path.name for path in written] == [f"{name}-{one}.cdx.json" for name in WANTED for one in BOTH]
    assert {path.name for path in (tmp_path / "sbom").iterdir()} == {path.name for path in written}
    component = json.loads(written[0].read_text())["metadata"]["component"]
    assert (component["name"], component["hashes"][0]["content"]) == (
        "ui",
        published["ui"].digest.removeprefix("sha256:"),
    )


def test_a_second_registry_gets_both_architectures_with_the_same_digests(
    house: tuple[str, dict[str, bytes]], machines: list[Machine]
) -> None:
    address, _ = house
    with registry() as (host, held):
        with pytest.raises(Failure, match=f"{address} lacks mlflow, ui of this checkout"):
            publish.mirror(address, WANTED, f"{host}/name")
        assert held == {}
        for machine in machines:
            machine.push(address, WANTED)
        digests = publish.join(address, WANTED, BOTH)
        publish.mirror(address, WANTED, f"{host}/name")
        assert {name: publish.digest(f"{host}/name/{name}:{tag}") for name, tag in WANTED.items()} == digests
        for name, tag in WANTED.items():
            for one in json.loads(held[f"/v2/name/{name}/manifests/{tag}"])["manifests"]:
                assert f"/v2/name/{name}/manifests/{one['digest']}" in held, "an architecture that cannot be pulled"
        first = dict(held)
        publish.mirror(address, WANTED, f"{host}/name")
        assert held == first


@pytest.mark.parametrize(
    "words", [["push", "--registry", ""], ["mirror", "--registry", "ghcr.io/house", "--to", "docker.io"]]
)
def test_a_registry_without_a_path_is_refused(words: list[str]) -> None:
    command = [sys.executable, "-m", "ci.images.publish", *words]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{words[-1]!r} is not a registry with a path: write it as registry.example/house" in done.stderr


def test_a_release_names_what_is_published(
    house: tuple[str, dict[str, bytes]], machines: list[Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = house
    every = dict.fromkeys(IMAGES, "0.1.0-abc")
    for folder in ("values", "charts/platform"):
        (tmp_path / "checkout" / folder).mkdir(parents=True)
    (tmp_path / "checkout/values/vm.yaml").write_text(f"global: {{imageRegistry: {address}}}\n")
    (tmp_path / "checkout/charts/platform/values.yaml").write_text("{}\n")
    monkeypatch.setattr(publish, "tags", lambda _: every)
    with pytest.raises(Failure, match=f"{address} lacks airflow, alertmanager, .*: publish them first"):
        release.built("vm", {}, from_registry=True, checkout=tmp_path / "checkout")

    for machine in machines:
        machine.push(address, every)
    digests = publish.join(address, every, BOTH)
    entries = release.built_for({}, publish.published(address, every), {})
    assert {name: (entry.tag, entry.digest) for name, entry in entries.items()} == {
        name: ("0.1.0-abc", digest) for name, digest in digests.items()
    }
    assert values.parse(values.render(entries), "") == entries


def test_a_registry_that_does_not_answer_is_no_registry_that_lacks_an_image() -> None:
    with pytest.raises(Failure, match="Check that the registry is reachable, and log in"):
        publish.digest("127.0.0.1:9/house/ui:1")
