"""An image's tag changes with what goes into the image, and with nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ci.common.paths import CHECKOUT
from ci.images import catalog, store
from ci.images.catalog import IMAGES, SERVICES, Image, files

WITH_PAGES = catalog.prometheus(ui=True)
PYTHON = [image for image in IMAGES.values() if image.environment]


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of services/ that tests may change, which the tags are made from."""
    copy = tmp_path / "services"
    shutil.copytree(SERVICES, copy, ignore=shutil.ignore_patterns("__pycache__", ".venv"))
    fingerprint = catalog.fingerprint
    monkeypatch.setattr(catalog, "SERVICES", copy)
    monkeypatch.setattr(store, "fingerprint", lambda sources, *more: fingerprint(sources, *more, root=copy))
    return copy


def tag(image: Image, base_id: str = "base") -> str:
    return store.tags(image, base_id)[0]


def environment(image: Image) -> str:
    return store.tags(image, "base")[1]


@pytest.mark.parametrize("image", [*IMAGES.values(), WITH_PAGES], ids=[*IMAGES, "with its pages"])
def test_every_source_of_an_image_exists(image: Image) -> None:
    for source in (image.dockerfile, *image.sources):
        assert files((source,)), f"{image.name} copies {source}, which is not a file under services/"


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_a_changed_file_changes_the_tag(image: Image, services: Path) -> None:
    before = tag(image)
    for file in files(image.inputs, services):
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        assert tag(image) != before, f"{image.name} keeps its tag though {file.relative_to(services)} changed"
        file.write_bytes(content)
    assert tag(image) == before


@pytest.mark.parametrize("image", PYTHON, ids=[image.name for image in PYTHON])
def test_a_changed_lock_changes_environment_and_tag(image: Image, services: Path) -> None:
    before = tag(image), environment(image)
    with (services / image.name / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert tag(image) != before[0]
    assert environment(image) != before[1]


@pytest.mark.parametrize("image", PYTHON, ids=[image.name for image in PYTHON])
def test_changed_code_keeps_the_environment(image: Image, services: Path) -> None:
    before = environment(image)
    for file in files((image.dockerfile, *image.sources), services):
        file.write_bytes(file.read_bytes() + b"\n")
    assert environment(image) == before


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_what_is_not_copied_in_leaves_the_tag_alone(image: Image, services: Path) -> None:
    before = tag(image)
    (services / "README.md").write_text("about the services")
    for source in (path for path in image.sources if (services / path).is_dir()):
        cache = services / source / "__pycache__"
        cache.mkdir(exist_ok=True)
        (cache / "module.cpython-311.pyc").write_bytes(b"bytecode of whoever ran the tests")
    assert tag(image) == before


def test_only_images_that_copy_core_follow_it(services: Path) -> None:
    before = {name: tag(image) for name, image in IMAGES.items()}
    with (services / "core/src/core/__init__.py").open("a") as module:
        module.write("# changed\n")
    assert {name for name, image in IMAGES.items() if tag(image) != before[name]} == {"pipeline", "predictor"}


def test_only_prometheus_with_its_pages_follows_them(services: Path) -> None:
    images = [*IMAGES.values(), catalog.prometheus(ui=False), WITH_PAGES]
    before = [tag(image) for image in images]
    with (services / "monitoring/prometheus/pages/node.lock").open("a") as lock:
        lock.write("# changed\n")
    changed = [image for image, old in zip(images, before, strict=True) if tag(image) != old]
    assert changed == [image for image in images if image == WITH_PAGES]


def test_an_argument_of_the_build_changes_the_tag() -> None:
    plain = catalog.prometheus(ui=False)
    assert len({tag(plain), tag(WITH_PAGES), tag(replace(plain, arguments=(("UI", "1"),)))}) == 3


@pytest.mark.parametrize(("value", "expected"), [("", "0"), ("0", "0"), ("1", "1")])
def test_the_pages_are_built_only_if_they_are_asked_for(value: str, expected: str) -> None:
    program = "from ci.images.catalog import IMAGES; print(dict(IMAGES['prometheus'].arguments)['UI'])"
    environment = {**os.environ, "HOUSE_PROMETHEUS_UI": value}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_a_file_made_executable_changes_the_tag(services: Path) -> None:
    postgres, entrypoint = IMAGES["postgres"], services / "postgres/entrypoint.sh"
    entrypoint.chmod(0o644)
    before = tag(postgres)
    entrypoint.chmod(0o755)
    assert tag(postgres) != before


def test_the_umask_of_a_checkout_does_not_change_the_tag(services: Path) -> None:
    predictor = IMAGES["predictor"]
    before = tag(predictor)
    for file in files(predictor.sources, services):
        file.chmod(0o600)
    assert tag(predictor) == before


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_another_base_changes_the_tag(image: Image) -> None:
    assert tag(image, "one base") != tag(image, "another base")
