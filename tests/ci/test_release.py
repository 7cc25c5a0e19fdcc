"""A release changes the images file of one environment, for the images that changed, and is one commit that says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ci.common.console import Failure
from ci.common.git import git
from ci.common.paths import CHECKOUT
from ci.deploy import release
from ci.images import values
from ci.images.store import Built
from ci.images.values import Entry

REGISTRY = "registry.example/house"


def entry(digit: int, commit: str = "") -> Entry:
    return Entry(f"0.1.0-{str(digit) * 12}", f"sha256:{str(digit) * 64}", commit or str(digit) * 40)


UI, PREDICTOR, MINIO = entry(1), entry(2), entry(3)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with three environments, two of them of one registry; vm has been released to."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@localhost")
    folder = tmp_path / "checkout"
    (folder / "charts" / "platform").mkdir(parents=True)
    (folder / "values").mkdir()
    (folder / "charts" / "platform" / "values.yaml").write_text("global: {imageRegistry: localhost/house-platform}\n")
    (folder / "values" / "kind.yaml").write_text("# nothing differs\n")
    for env in ("vm", "prod"):
        (folder / "values" / f"{env}.yaml").write_text(f"global: {{imageRegistry: {REGISTRY}}}\n")
    values.write("vm", {"ui": UI, "predictor": PREDICTOR}, folder)
    git(tmp_path, "init", "-q", "-b", "main", str(folder))
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def promote(checkout: Path, commit: bool = False) -> list[release.Change]:
    return release.release("prod", release.promoted("vm", "prod", checkout), "The images of vm.", commit, checkout)


def head(checkout: Path, form: str = "%H") -> str:
    return git(checkout, "log", "-1", f"--format={form}")


def test_promotion_names_exactly_the_images_of_the_source(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values.write("prod", {"ui": UI, "predictor": MINIO, "minio": MINIO}, checkout)
    promote(checkout)
    assert values.file("prod", checkout).read_bytes() == values.file("vm", checkout).read_bytes()
    heading, *rows = capsys.readouterr().out.splitlines()[:3]
    assert heading.split() == ["image", "tag", "commits"]
    assert [row.split() for row in rows] == [
        ["minio", MINIO.tag, "->", "(none)", "333333333333"],
        ["predictor", MINIO.tag, "->", PREDICTOR.tag, "333333333333..222222222222"],
    ]


def test_a_second_promotion_changes_nothing_and_says_so(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [change.name for change in promote(checkout, commit=True)] == ["predictor", "ui"]
    commit = head(checkout)
    assert promote(checkout, commit=True) == promote(checkout) == []
    assert head(checkout) == commit
    assert "nothing changed: values/images-prod.yaml has these 2 images already" in capsys.readouterr().out


def test_the_commit_holds_the_file_alone_and_lists_the_changes(checkout: Path) -> None:
    (checkout / "values" / "kind.yaml").write_text("# not for a release\n")
    git(checkout, "add", "values/kind.yaml")
    promote(checkout, commit=True)
    assert git(checkout, "show", "--format=", "--name-only", "HEAD") == "values/images-prod.yaml"
    assert git(checkout, "diff", "--cached", "--name-only") == "values/kind.yaml", "what was staged stays so"
    assert head(checkout, "%B").splitlines() == [
        "release: predictor, ui to prod",
        "",
        "The images of vm.",
        "",
        f"predictor: (none) -> {PREDICTOR.tag}, 222222222222",
        f"ui: (none) -> {UI.tag}, 111111111111",
    ]


def test_many_images_make_a_short_subject() -> None:
    changes = release.differences({}, {f"image{number}": entry(number) for number in range(7)})
    assert release.message("prod", changes, "Why.").splitlines()[0] == "release: 7 images to prod"


def test_what_was_promoted_without_a_commit_is_committed_later(checkout: Path) -> None:
    promote(checkout)
    assert [change.name for change in promote(checkout, commit=True)] == ["predictor", "ui"]
    assert git(checkout, "status", "--porcelain") == ""


def test_reverting_the_commit_goes_back(checkout: Path) -> None:
    promote(checkout, commit=True)
    before = values.file("prod", checkout).read_text()
    values.write("vm", {"ui": MINIO, "predictor": PREDICTOR}, checkout)
    promote(checkout, commit=True)
    git(checkout, "checkout", "-q", "--", "values/images-vm.yaml")
    git(checkout, "revert", "--no-edit", "HEAD")
    assert values.file("prod", checkout).read_text() == before


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("vm", "vm", "vm is both source and target: name two environments"),
        ("vm", "kind", r"vm pulls from registry\.example/house, kind from localhost/house-platform"),
        ("prod", "vm", r"values/images-prod\.yaml is missing or names no image: release to prod first"),
        ("stage", "prod", r"unknown environment 'stage'; values/ has kind, prod, vm"),
        ("vm", "", r"unknown environment ''"),
    ],
)
def test_what_cannot_be_promoted_is_refused(checkout: Path, source: str, target: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        release.promoted(source, target, checkout)


def test_images_that_no_cluster_could_pull_are_refused_by_name(checkout: Path) -> None:
    values.write("vm", {"ui": UI, "minio": Entry(MINIO.tag), "predictor": Entry(PREDICTOR.tag)}, checkout)
    with pytest.raises(Failure, match=r"values/images-vm\.yaml: no digest for minio, predictor, and registry\.example"):
        release.promoted("vm", "prod", checkout)


def test_images_of_uncommitted_sources_are_refused_by_name(checkout: Path) -> None:
    values.write("vm", {"ui": entry(1, "a" * 40 + "-dirty"), "predictor": PREDICTOR}, checkout)
    with pytest.raises(Failure, match=r"values/images-vm\.yaml: ui were built from uncommitted sources"):
        release.promoted("vm", "prod", checkout)


def test_images_without_a_commit_are_promoted_with_a_note(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values.write("vm", {"ui": entry(1, "unknown"), "predictor": Entry(PREDICTOR.tag, PREDICTOR.digest)}, checkout)
    assert set(release.promoted("vm", "prod", checkout)) == {"ui", "predictor"}
    assert "the commit of predictor, ui is unknown" in capsys.readouterr().out


def test_where_no_registry_is_used_neither_digest_nor_commit_is_needed() -> None:
    release.check({"ui": Entry(UI.tag)}, "images of kind", "localhost/house-platform")


def test_only_images_whose_tag_changed_are_written() -> None:
    """Another builder may give the same inputs other bytes, and a rebase another commit; the cluster has neither."""
    before = {"ui": UI, "predictor": PREDICTOR, "gone": MINIO}
    built = {"ui": Entry(UI.tag, MINIO.digest, MINIO.commit), "predictor": MINIO, "minio": MINIO}
    assert release.built_for(before, built, {}) == {"ui": UI, "predictor": MINIO, "minio": MINIO}


def test_digests_of_the_registry_are_taken_for_new_images_only() -> None:
    built = {"ui": Entry(UI.tag, "", UI.commit), "predictor": Entry(MINIO.tag, "", MINIO.commit)}
    entries = release.built_for(
        {"ui": UI, "predictor": PREDICTOR}, built, {"predictor": MINIO.digest, "ui": MINIO.digest}
    )
    assert entries == {"ui": UI, "predictor": MINIO}
    with pytest.raises(Failure, match="unknown image uii; the names are predictor, ui"):
        release.built_for({}, built, {"uii": UI.digest})


def test_a_release_writes_what_was_built_and_stops_at_what_the_registry_lacks(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = [
        Built("ui", UI.tag, "", 1, 0, checkout, UI.commit),
        Built("minio", MINIO.tag, "", 1, 0, checkout, MINIO.commit),
    ]
    monkeypatch.setattr(release.actions, "build", lambda *_: built)
    with pytest.raises(Failure, match=r"images of vm: no digest for minio, and .* --digest NAME=sha256:"):
        release.built("vm", {}, checkout)
    after = release.built("vm", {"minio": MINIO.digest}, checkout)
    release.release("vm", after, "Why.", commit=True, checkout=checkout)
    assert values.read("vm", checkout) == {"ui": UI, "minio": MINIO}
    assert head(checkout, "%s") == "release: minio, predictor to vm"


@pytest.mark.parametrize("env", ["kind", "vm", "prod"])
def test_registry_is_what_the_charts_use(env: str) -> None:
    layers = (CHECKOUT / "charts" / "platform" / "values.yaml", CHECKOUT / "values" / f"{env}.yaml")
    wanted = [yaml.safe_load(path.read_text())["global"].get("imageRegistry") for path in layers]
    assert release.registry(env) == (wanted[1] or wanted[0])


def test_vm_and_prod_pull_from_one_registry() -> None:
    """Or `make promote-env FROM=vm TO=prod` would be refused."""
    assert release.registry("vm") == release.registry("prod")
    assert not release.is_local(release.registry("vm"))
