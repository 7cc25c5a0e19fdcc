"""Workflows run what people run, targets of the Makefile, with no more rights than they need; zizmor does the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ci.common.paths import CHECKOUT
from ci.images.publish import ARCHITECTURES

WORKFLOWS: dict[str, dict[str, Any]] = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted((CHECKOUT / ".github/workflows").glob("*.yml"))
}
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
# what needs more than a target: logins, GitHub's own program, and the runner's Docker out of the way
OTHERS = ("skopeo login", "docker login", ".venv/bin/helm registry login", "gh ", "sudo systemctl stop docker")
GIT = ("git push", "gh auth", "number=", "[ -n", "if [")


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for file, workflow in WORKFLOWS.items():
        for job, content in workflow["jobs"].items():
            for step in content.get("steps", []):
                yield f"{file}: {job}", step


def commands() -> list[tuple[str, str]]:
    return [(where, line.strip()) for where, step in steps() for line in step.get("run", "").splitlines()]


@pytest.mark.parametrize(("where", "line"), commands())
def test_every_step_is_a_target_of_the_makefile(where: str, line: str) -> None:
    match = re.search(r"\bmake ((?:--silent )?[a-z][\w -]*)", line)
    if not match:
        assert line.startswith((*OTHERS, *GIT)), f"{where}: `{line}` cannot be run here by a target"
        return
    wanted = [word for word in match[1].split() if re.fullmatch(r"[a-z][a-z0-9-]*", word)]
    assert wanted, line
    assert set(wanted) <= TARGETS, f"{where}: the Makefile has no {sorted(set(wanted) - TARGETS)}"


def test_an_action_is_one_commit_everywhere_and_says_its_version() -> None:
    pinned: dict[str, set[str]] = {}
    for path in (CHECKOUT / ".github/workflows").glob("*.yml"):
        for line in re.findall(r"uses: ((?!\./).*)", path.read_text()):
            match = re.fullmatch(r"([\w./-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+", line)
            assert match, f"{path.name}: {line}"
            pinned.setdefault(match[1], set()).add(match[2])
    assert {action: hashes for action, hashes in pinned.items() if len(hashes) > 1} == {}


@pytest.mark.parametrize("file", WORKFLOWS)
def test_rights_are_given_job_by_job(file: str) -> None:
    assert WORKFLOWS[file]["permissions"] == {}
    for name, job in WORKFLOWS[file]["jobs"].items():
        assert job["permissions"], f"{file}: {name} says nothing of its rights"
        assert "uses" in job or "timeout-minutes" in job, f"{file}: {name} may hang for six hours"
    if "pull_request" in WORKFLOWS[file].get(True, {}):  # YAML reads `on` so
        granted = {right for job in WORKFLOWS[file]["jobs"].values() for right in job["permissions"].values()}
        assert granted == {"read"}, f"{file}: a pull request of anybody gets {granted}"


def test_what_names_images_has_the_history_that_tells_their_commits() -> None:
    for file, workflow in WORKFLOWS.items():
        for name, job in workflow["jobs"].items():
            text = str(job.get("steps"))
            if re.search(r"make (--silent )?(publish|release|images|e2e|upgrade)", text):
                [checkout] = [step for step in job["steps"] if "actions/checkout" in step.get("uses", "")]
                assert checkout["with"].get("fetch-depth") == 0, f"{file}: {name}"


def test_everything_that_writes_to_a_registry_waits_for_all_tests() -> None:
    assert set(WORKFLOWS["test.yml"][True]) == {"pull_request", "workflow_call"}, "a push to main would run them twice"
    jobs = WORKFLOWS["publish.yml"]["jobs"]
    assert jobs["tests"]["uses"] == "./.github/workflows/test.yml"
    assert not {"if", "continue-on-error", "with"} & set(jobs["tests"])

    def before(name: str) -> set[str]:
        needed = jobs[name].get("needs", [])
        direct = {needed} if isinstance(needed, str) else set(needed)
        return direct.union(*(before(one) for one in direct))

    for name, job in jobs.items():
        assert name == "tests" or "tests" in before(name), f"{name} does not wait for the tests"
        assert not re.search(r"always\(\)|failure\(\)|cancelled\(\)", str(job.get("if"))), (
            f"{name} runs after failed tests"
        )


def test_release_needs_the_published_commit_before_it_builds() -> None:
    lines = [line for where, line in commands() if where == "release.yml: release"]
    assert re.match(
        r'\[ -n "\$\(gh run list --workflow publish\.yml --commit "\$GITHUB_SHA" --status success ', lines[0]
    )
    assert WORKFLOWS["release.yml"]["jobs"]["release"]["permissions"]["actions"] == "read"


def test_provenance_and_the_bill_of_every_architecture_are_attested() -> None:
    job = WORKFLOWS["publish.yml"]["jobs"]["attest"]
    kinds = [re.sub(r"@.*", "", step["uses"]) for step in job["steps"] if "subject-digest" in step.get("with", {})]
    assert kinds == ["actions/attest-build-provenance", *["actions/attest-sbom"] * len(ARCHITECTURES)]
    documents = [step["with"]["sbom-path"] for step in job["steps"] if "sbom-path" in step.get("with", {})]
    assert documents == [f"sbom/${{{{ matrix.image.image }}}}-{one}.cdx.json" for one in ARCHITECTURES.values()]


def test_nothing_is_called_latest() -> None:
    for file in WORKFLOWS:
        assert "latest" not in (CHECKOUT / ".github/workflows" / file).read_text(), file
