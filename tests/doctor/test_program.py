"""The doctor as a program: exit code, table, JSON, and the standard library alone."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.bundle.make import NOT_BUNDLED, PROGRAMS
from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.doctor import checklist, rendered
from ci.doctor.requirements import Requirements, load
from ci.doctor.result import fail, ok, table, warn
from tests.kit.rendering import ENVIRONMENTS

SOURCES = sorted(path for path in (CHECKOUT / "ci/doctor").glob("*.py") if path.name not in NOT_BUNDLED)
CARRIED = [name for name in PROGRAMS if not name.startswith("ci/argocd")]  # the bundle has them, too


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The doctor with Python's standard library alone (-S: no site-packages), and without a cluster."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "ci.doctor", *words],
        cwd=folder,
        env={"PATH": "", "HOUSE_STATE_DIR": str(folder / "none"), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A folder that holds what the bundle holds of ci/, and what an environment needs."""
    for path in [*SOURCES, *(CHECKOUT / name for name in CARRIED)]:
        target = tmp_path / path.relative_to(CHECKOUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "requirements.json").write_text(Requirements("vm", cpu=0.1, images=["localhost/a/b:1"]).save())
    return tmp_path


def test_runs_with_the_standard_library_alone(alone: Path) -> None:
    done = run(alone, "--requirements", "requirements.json", "--no-cluster", "--json")
    output = json.loads(done.stdout)
    assert done.returncode == (0 if output["ok"] else 1), done.stderr
    assert output["env"] == "vm"
    names = [one["check"] for one in output["results"]]
    assert names == ["cpu", "architecture", "memory", "disk", "cgroups", "inotify", "clock", "name servers", "cidr",
                     "data API rule", "data API"]  # fmt: skip
    assert not [one for one in output["results"] if one["what"].startswith("the check itself failed")]


def test_no_cluster_is_a_failure_with_what_to_do(alone: Path) -> None:
    done = run(alone, "--requirements", "requirements.json")
    assert done.returncode == 1, done.stderr
    assert "FAIL  kubernetes" in done.stdout
    assert "-> start it (make cluster, systemctl start k3s), set KUBECONFIG" in done.stdout


def test_overlap_is_found_before_the_cluster_is_there(alone: Path) -> None:
    (alone / "requirements.json").write_text(Requirements("vm", data_api="http://10.43.100.103:1").save())
    done = run(
        alone,
        "--requirements",
        "requirements.json",
        "--no-cluster",
        "--service-cidr",
        "10.43.0.0/16",
        "--timeout",
        "0.01",
    )
    assert done.returncode == 1, done.stderr
    assert "the data API at 10.43.100.103 lies inside the cluster's service network 10.43.0.0/16" in done.stdout


def test_without_a_file_and_without_the_environment_it_says_what_to_run(alone: Path) -> None:
    done = run(alone)
    assert (done.returncode, "run `make doctor`, or pass --requirements FILE" in done.stderr) == (1, True)


def test_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"env": "vm", "colour": "red"}')
    with pytest.raises(Failure, match=r"is not a file of `python -m ci\.doctor\.rendered`: colour"):
        load(tmp_path / "a.json")
    with pytest.raises(Failure, match="cannot be read"):
        load(tmp_path / "b.json")


@pytest.mark.parametrize("path", [*SOURCES, *(CHECKOUT / name for name in CARRIED)], ids=lambda path: path.name)
def test_a_machine_with_python_3_9_can_read_it(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 9))


def test_a_check_that_cannot_look_does_not_end_the_others() -> None:
    def broken() -> None:
        raise FileNotFoundError("/proc/meminfo")

    [result] = checklist.guarded("memory", broken)  # type: ignore[arg-type]
    assert (result.level, result.what) == ("warn", "the check itself failed: /proc/meminfo")


def test_table_shows_each_result_and_under_it_what_to_do() -> None:
    text = table([ok("cpu", "fine"), warn("clock", "off", "set it"), fail("disk", "full", "empty it")])
    assert text.splitlines() == [
        "ok    cpu    fine",
        "WARN  clock  off",
        "             -> set it",
        "FAIL  disk   full",
        "             -> empty it",
        "",
        "1 ok, 1 warnings, 1 failed, 0 not looked at",
    ]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_expectations_come_from_what_the_charts_render(env: str, tmp_path: Path) -> None:
    needs = rendered.requirements(env)
    (tmp_path / "requirements.json").write_text(needs.save())
    assert load(tmp_path / "requirements.json") == needs
    assert 0.5 < needs.cpu < 4
    assert 2**30 < needs.memory < 8 * 2**30
    assert needs.volumes > 5 * 2**30
    assert needs.mlflow["server"] == needs.mlflow["pipeline"] != ""
    assert "mlops/postgres" in needs.secrets
    external = env != "kind"
    assert (needs.data_api, needs.data_api_cidr) == (
        ("http://10.43.100.103:8000", "10.43.100.103/32") if external else ("", "")
    )
    assert needs.foreign_secrets == (["mlops/house-tls"] if env == "prod" else [])


def test_pods_of_an_autoscaler_count_as_its_fewest() -> None:
    few, many = (rendered.requirements("prod", settings=[f"fastapi.autoscaling.minReplicas={at}"]) for at in (2, 3))
    assert many.cpu - few.cpu == pytest.approx(0.5)
    off = rendered.requirements("prod", settings=["fastapi.autoscaling.enabled=false"])
    assert (off.cpu, off.memory) == (few.cpu, few.memory)


def test_readme_lists_every_check() -> None:
    readme = (CHECKOUT / "ci/doctor/README.md").read_text()
    checks = {
        node.args[0].value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ok", "fail", "warn")
        and node.args and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert checks, "no checks found"
    rows = {
        name: (f"| {name} |", f"| {name.removesuffix('s')} `<name>` |") for name in checks
    }  # of all, or each its own
    assert [name for name, either in sorted(rows.items()) if not any(row in readme for row in either)] == []


def test_environment_that_does_not_exist() -> None:
    with pytest.raises(Failure, match="unknown environment 'moon'; values/ has kind, prod, vm"):
        rendered.requirements("moon")


def test_help_says_what_the_exit_codes_mean() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ci.doctor", "--help"],
        cwd=CHECKOUT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Ends with 0 if nothing fails" in done.stdout


def test_nothing_that_is_installed_is_a_failure_where_it_is_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checklist.kube, "kube", lambda *_, **__: "")
    monkeypatch.setattr(checklist, "present_images", set)
    needs = Requirements("vm")
    [platform] = [one for one in checklist.installed(needs, True, 1) if one.check == "platform"]
    assert (platform.level, platform.what) == ("fail", "nothing is installed in the namespace mlops")
    assert [one for one in checklist.installed(needs, False, 1) if one.check == "platform"] == []
