"""A program that fails is reported with its own last words and with what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ci.common.console import Failure, main, phase, run, stream, wait_for
from ci.common.paths import CHECKOUT

FAILING = ["sh", "-c", "for n in $(seq 100); do echo line $n; done; echo the reason >&2; exit 7"]


def test_a_failure_shows_the_code_and_the_end_of_what_was_said() -> None:
    with pytest.raises(Failure) as failed:
        run(FAILING)
    text = str(failed.value)
    assert "`sh -c" in text.splitlines()[0]
    assert "ended with code 7" in text.splitlines()[0]
    assert text.endswith("line 100\n\nthe reason")
    assert "line 60\n" not in text, "the message must not hold the whole log"


def test_with_a_log_the_failure_shows_its_end_and_where_it_is(tmp_path: Path) -> None:
    log = tmp_path / "log" / "step.log"
    run(["sh", "-c", "echo of an earlier step"], log=log)
    with pytest.raises(Failure, match=rf"ended with code 7 \(whole log: {log}\):\n(?s:.*)the reason"):
        run(FAILING, log=log)
    lines = log.read_text().splitlines()
    assert lines[:2] == ["of an earlier step", "line 1"], "the log is appended to"


def test_unchecked_the_code_and_both_outputs_are_returned() -> None:
    done = run(FAILING, check=False)
    assert (done.returncode, done.stderr) == (7, "the reason\n")
    assert done.stdout.startswith("line 1\n")


def test_input_folder_and_environment_reach_the_program(tmp_path: Path) -> None:
    done = run(["sh", "-c", "cat; pwd; echo $WORD"], stdin="said\n", cwd=tmp_path, env={"WORD": "given"})
    assert done.stdout.split() == ["said", str(tmp_path), "given"]


def test_a_missing_program_is_named() -> None:
    with pytest.raises(Failure, match=r"^no-such-program is not installed$"):
        run(["no-such-program", "--version"], check=False)


def test_a_program_that_does_not_end_is_named_with_the_time_it_had() -> None:
    with pytest.raises(Failure, match="`sleep 30` did not end within 0 s"):
        run(["sleep", "30"], timeout=0.2, check=False)


def test_what_does_not_come_is_named_with_the_time_it_had() -> None:
    with pytest.raises(Failure, match=r"^the moon did not come within 0 s$"):
        wait_for("the moon", lambda: False, 0.05, every=0.01)


def test_waiting_ends_as_soon_as_it_is_there() -> None:
    answers = iter([False, False, True])
    wait_for("it", lambda: next(answers), 5, every=0)
    assert next(answers, None) is None


def test_a_streamed_program_that_fails_is_named() -> None:
    with pytest.raises(Failure, match=r"`python -c raise SystemExit\(3\)` ended with code 3"):
        stream("-c", "raise SystemExit(3)")


def test_a_phase_says_how_long_it_took_and_what_is_next(capsys: pytest.CaptureFixture[str]) -> None:
    with phase("cook", then="eat"):
        pass
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("] cook ...")
    assert lines[1].endswith("] cook: done in 0.0 s; next: eat")


def test_a_phase_that_fails_is_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Failure), phase("cook"):
        raise Failure("burnt")
    assert "done" not in capsys.readouterr().out


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_result_of_a_program_is_its_exit_code(result: int | None, code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        main(lambda: result)
    assert ended.value.code == code


def test_a_failure_ends_a_program_with_one_message_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def program() -> int:
        raise Failure("the oven is cold: light it")

    with pytest.raises(SystemExit) as ended:
        main(program)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "\nFAILED: the oven is cold: light it\n"


def test_streaming_passes_output_on(capfd: pytest.CaptureFixture[str]) -> None:
    stream("-c", "print('heard')")
    assert capfd.readouterr().out == "heard\n", sys.executable


def test_lines_of_several_threads_stay_whole() -> None:
    text = (
        "import threading; from ci.common.console import say\n"
        "threads = [threading.Thread(target=lambda: [say('whole') for _ in range(200)]) for _ in range(8)]\n"
        "[one.start() for one in threads]; [one.join() for one in threads]"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 1600
    assert all(re.fullmatch(r"\[ +\d+\.\d s\] whole", line) for line in lines)
