"""Lock, bundle and rendered manifests of every environment name the same images; nothing is damaged on the way."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ci.bundle.make import PROGRAMS, commit, foreign, make, parts
from ci.checks.new_version import current
from ci.common.console import Failure
from ci.common.git import git
from ci.common.paths import CHECKOUT
from ci.deploy import release
from ci.doctor import rendered
from ci.images import archive, store, values
from ci.images.values import Entry
from tests.bundle.archives import argocd
from tests.bundle.conftest import SETTINGS
from tests.kit.bundles import unpack
from tests.kit.image_archives import SHARED, image
from tests.kit.rendering import ENVIRONMENTS


def index(folder: Path) -> dict[str, Any]:
    with tarfile.open(folder / "images/images.tar") as images:
        member = images.extractfile("index.json")
        assert member
        return dict(json.load(member))


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_lock_bundle_and_manifests_name_the_same_images(
    env: str, bundles: dict[str, Path], lock: Path, tmp_path: Path
) -> None:
    folder = unpack(bundles[env], tmp_path)
    registry = release.registry(env)
    locked = {
        f"{registry}/{name}:{entry.tag}@{entry.digest}" for name, entry in values.parse(lock.read_text(), "").items()
    }
    bundled = set((folder / "images/names").read_text().split())
    archived = {one["annotations"]["io.containerd.image.name"] for one in index(folder)["manifests"]}
    wanted = set(rendered.requirements(env, lock, SETTINGS).images)
    [delivering] = bundled - locked
    assert delivering.startswith(f"{registry}/argocd:3.6.1-abc@sha256:")
    bundled.remove(delivering)
    assert bundled == locked
    names = {*locked, delivering}
    assert archived == {re.sub(r":[^:@]+@", "@", name) for name in names} | {name.partition("@")[0] for name in names}
    delivered = json.loads((folder / "argocd/offline/install.json").read_text())
    assert set(rendered.images(delivered)) == {delivering}, "Argo CD's own objects run other images"
    assert wanted <= bundled, "manifests name images that the bundle has not"
    assert {name for name in bundled - wanted if "/datasource:" not in name} == set(), "images that nothing runs"
    assert json.loads((folder / "requirements.json").read_text())["images"] == sorted(wanted)
    assert (folder / f"values/images-{env}.yaml").read_bytes() == lock.read_bytes()
    assert (folder / f"values/{env}.yaml").read_bytes() == (CHECKOUT / f"values/{env}.yaml").read_bytes()


def test_every_member_has_a_checksum_and_every_image_a_bill(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = unpack(bundles["kind"], tmp_path)
    listed = dict(line.split("  ")[::-1] for line in (folder / "checksums.sha256").read_text().splitlines())
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"checksums.sha256"}
    assert set(listed) == present
    wanted = (
        "install.sh",
        "README.md",
        "LICENSE",
        "bin/helm",
        f"charts/platform-{current(CHECKOUT)}.tgz",
        "ci/doctor/__main__.py",
    )
    wanted += ("ci/k3s/README.md", "argocd/root-vm.yaml", "charts/monitoring/runbooks/PostgresDown.md")
    assert set(wanted) <= present
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    images = {"argocd", *values.parse((folder / "values/images-kind.yaml").read_text(), "")}
    assert {path.name.removesuffix(".cdx.json") for path in (folder / "sbom").iterdir()} == images


def test_checksum_of_the_whole_is_beside_it(bundles: dict[str, Path]) -> None:
    packed = bundles["vm"]
    digest, _, name = packed.with_name(f"{packed.name}.sha256").read_text().strip().partition("  ")
    assert (digest, name) == (hashlib.sha256(packed.read_bytes()).hexdigest(), packed.name)
    assert re.fullmatch(r"house-platform-[\d.]+-[0-9a-f]{12}(-dirty)?-vm\.tar\.(zst|gz)", name)


def test_a_bundle_is_named_by_its_commit_whatever_images_a_build_wrote(tmp_path: Path) -> None:
    assert commit(tmp_path) == "unknown"
    (tmp_path / "values").mkdir()
    (tmp_path / "values/vm.yaml").touch()
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    (tmp_path / "values/images-vm.yaml").write_text("new: 1\n")
    assert re.fullmatch("[0-9a-f]{12}", commit(tmp_path))
    (tmp_path / "values/vm.yaml").write_text("changed: 1\n")
    assert commit(tmp_path).endswith("-dirty")


def test_page_of_a_bundle_links_to_what_is_in_it(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = unpack(bundles["kind"], tmp_path)
    links = re.findall(r"\]\(([^)#]+)", (folder / "README.md").read_text())
    assert "UNPROVED.md" in links
    assert [link for link in links if not (folder / link).is_file()] == []


def test_a_layer_that_images_share_is_in_it_once(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = unpack(bundles["kind"], tmp_path)
    with tarfile.open(folder / "images/images.tar") as images:
        names = images.getnames()
    assert names.count(f"blobs/sha256/{hashlib.sha256(SHARED).hexdigest()}") == 1
    assert len(names) == len(set(names))


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_the_machine_runs_is_read_by_python_3_9(program: str) -> None:
    ast.parse((CHECKOUT / program).read_text(), feature_version=(3, 9))


def test_nothing_of_the_work_remains(bundles: dict[str, Path]) -> None:
    folder = bundles["kind"].parent
    assert {path.suffix for path in folder.iterdir()} <= {".zst", ".gz", ".sha256"}


def test_archive_that_is_damaged_is_refused(tmp_path: Path) -> None:
    image(tmp_path, "ui", "1", {"a": b"x" * 500})
    file = tmp_path / "ui-1.tar"
    with tarfile.open(file) as whole:
        blob = next(member for member in whole if member.name.startswith("blobs/"))
    content = bytearray(file.read_bytes())
    content[blob.offset_data] ^= 1
    file.write_bytes(content)
    message = r"ui-1\.tar is damaged: the content of blobs/sha256/\w+ does not match its digest"
    with pytest.raises(Failure, match=message):
        archive.merge([(file, "localhost/house-platform/ui", "1")], tmp_path / "all.tar")


def test_archive_that_is_missing_names_the_commit_to_build(tmp_path: Path) -> None:
    entry = Entry("0.1.0-x", f"sha256:{'a' * 64}", "d" * 40)
    with pytest.raises(Failure, match=f"check out commit {'d' * 40} and run `make images`"):
        store.archived("ui", entry, tmp_path)


def test_archive_of_another_digest_is_refused(tmp_path: Path) -> None:
    image(tmp_path, "ui", "1", {})
    with pytest.raises(Failure, match="but the environment uses sha256:aaa"):
        parts("localhost/house-platform", {"ui": Entry("1", f"sha256:{'a' * 64}")}, tmp_path)


def test_image_without_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="image ui has a tag but no digest"):
        parts("localhost/house-platform", {"ui": Entry("1")}, tmp_path)


def test_environment_without_an_images_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"none\.yaml is missing: `make images ENV=vm`"):
        make("vm", tmp_path, lock=tmp_path / "none.yaml")


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_bundle_for_a_mirror_with_a_foreign_image_names_what_the_manifests_name(
    env: str, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_CACHE_DIR", str(tmp_path / "cache"))
    kept = tmp_path / "cache/foreign"
    kept.mkdir(parents=True)
    digest = image(kept, "grafana", "12", {})
    (kept / "grafana-12.tar").rename(kept / f"{digest.removeprefix('sha256:')}.tar")
    mirror = "registry.example:5000/mirror"
    settings = (
        "monitoring.grafana.enabled=true",
        f"monitoring.grafana.image={mirror}/grafana:12@{digest}",
        f"global.imageRegistry={mirror}",
    )
    folder = unpack(
        make(env, tmp_path / "made", settings, lock, lock.parent, argocd(tmp_path / "argocd")), tmp_path / "at"
    )
    bundled = (folder / "images/names").read_text().split()
    wanted = rendered.requirements(env, lock, settings).images
    delivered = json.loads((folder / "argocd/offline/install.json").read_text())
    assert all(name.startswith(f"{mirror}/") for name in bundled)
    assert f"{mirror}/grafana:12@{digest}" in wanted
    needed = {*wanted, *rendered.images(delivered)}
    assert {name for name in {*bundled} ^ needed if "/datasource:" not in name} == set()


@pytest.mark.parametrize(
    ("image", "setting"),
    [
        ("grafana/grafana:12", "monitoring.grafana.enabled=false"),
        ("registry.example/a/kube-state-metrics:v2", "monitoring.kubeStateMetrics.enabled=false"),
    ],
)
def test_foreign_image_that_cannot_be_fetched_says_how_to_do_without(
    image: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no skopeo
    reference = f"{image}@sha256:{'b' * 64}"
    with pytest.raises(Failure, match=rf"{reference} is not built here.*(?s:.*)--set {re.escape(setting)}"):
        foreign([], [reference], tmp_path / "foreign")


def test_foreign_image_that_is_kept_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / f"{'b' * 64}.tar").touch()
    [part] = foreign([], [f"grafana/grafana:12@sha256:{'b' * 64}"], tmp_path)
    assert part.reference == f"docker.io/grafana/grafana:12@sha256:{'b' * 64}"
