"""Every skip is listed with its reason, and one that is not allowed fails the run where CI is set."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from ci.common.paths import CHECKOUT

FILE = """
    import pytest

    def test_runs():
        pass

    @pytest.mark.parametrize("one", [1, 2])
    def test_skips(one):
        pytest.skip("no   tool\\nis here")

    @pytest.mark.xfail(reason="known", strict=True)
    def test_fails_as_known():
        assert False
"""
MODULE = 'import pytest\npytest.skip("no folder is here", allow_module_level=True)'
TESTS = {"test": "test_file.py::test_skips[*]", "reason": "no tool is *", "why": "the test of the plugin"}
WHOLE_FILE = {"test": "test_module.py", "reason": "no folder is here", "why": "the test of the plugin"}
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest on both files, with CI set or not and with or without workers."""

    def run(*entries: dict[str, str], ci: str = "true", workers: int = 0) -> pytest.RunResult:
        monkeypatch.setenv("CI", ci)
        monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
        monkeypatch.setenv("PYTEST_ADDOPTS", "")
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # importing them takes most of the time
        pytester.makepyfile(test_file=FILE, test_module=MODULE)
        pytester.makefile(".yaml", allowed=yaml.safe_dump(list(entries)))
        pytester.makeini("[pytest]\nallowed_skips = allowed.yaml")
        plugins = ("-p", "xdist.plugin", "-p", "tests.kit.skips")
        return pytester.runpytest_subprocess("-q", *plugins, f"-n{workers}")

    return run


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("entries", "code"),
    [((TESTS, WHOLE_FILE), 0), ((TESTS,), 1), ((WHOLE_FILE,), 1), ((), 1)],
    ids=["all allowed", "a file is not", "tests are not", "none is"],
)
def test_skip_that_is_not_allowed_fails_the_run(
    run: Run, entries: tuple[dict[str, str], ...], code: int, workers: int
) -> None:
    done = run(*entries, workers=workers)
    assert done.ret == code
    output = done.stdout.str()
    assert ("This fails the run, because CI is set" in output) is bool(code)
    for reason, tests in {
        "no tool is here": "test_file.py::test_skips (2 parameters)",
        "no folder is here": "test_module.py",
    }.items():
        at = done.outlines.index(f"  {reason}")
        assert done.outlines[at + 1] == f"    {tests}"
    allowed, _, others = output.partition("Skipped, not in allowed.yaml")
    assert ("test_skips" in others, "test_module" in others) == (TESTS not in entries, WHOLE_FILE not in entries)
    assert "test_fails_as_known" not in allowed + others, "a known failure is not a skip"


def test_skip_fails_nothing_where_ci_is_not_set(run: Run) -> None:
    done = run(ci="")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*This would fail the run where CI is set*"])


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"test": "*", "reason": "*", "why": " "}, "*why is empty*"),
        ({"test": "*", "reason": "*"}, "*missing 1 required positional argument: 'why'*"),
    ],
)
def test_entry_without_its_why_is_refused(run: Run, entry: dict[str, str], words: str) -> None:
    done = run(entry)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([words])


def test_other_reason_is_not_allowed(run: Run) -> None:
    assert run(TESTS | {"reason": "no folder is *"}, WHOLE_FILE).ret == 1
