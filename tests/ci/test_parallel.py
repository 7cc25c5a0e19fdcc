"""Programs that run side by side: whole lines behind a name, and one failure that ends all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.deploy.parallel import Program, together

# Waits, notes an interrupt in a file, and ends only after it cleaned up.
PATIENT = """
import sys, time
try:
    print('waiting')
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    open(sys.argv[1], 'a').write('interrupted once\\n')
    sys.exit(130)
"""


def program(name: str, text: str, *words: object) -> Program:
    return Program(name, ("-c", text, *map(str, words)))


def test_both_run_at_once_and_each_line_has_its_name(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    meet = (
        "import pathlib, sys, time; mine, other = map(pathlib.Path, sys.argv[1:]); mine.touch()\n"
        "while not other.exists(): time.sleep(0.01)\n"
        "print('met'); print('and done', file=sys.stderr)"
    )
    one, two = tmp_path / "one", tmp_path / "two"
    seconds = together([program("cluster", meet, one, two), program("build images", meet, two, one)], {})
    lines = capfd.readouterr().out.splitlines()
    assert {line for line in lines if " | " in line} == {
        "cluster      | met", "cluster      | and done", "build images | met", "build images | and done",
    }  # fmt: skip
    assert sum(": done in " in line for line in lines) == 2
    assert list(seconds) == ["cluster", "build images"]
    assert all(0 < took < 30 for took in seconds.values())


def test_settings_reach_every_program(capfd: pytest.CaptureFixture[str]) -> None:
    show = "import os; print(os.environ['WORD'])"
    together([program("a", show), program("b", show)], {"WORD": "given"})
    assert sorted(line for line in capfd.readouterr().out.splitlines() if "|" in line) == ["a | given", "b | given"]


def test_a_failure_has_the_programs_last_lines_and_interrupts_the_other(tmp_path: Path) -> None:
    note = tmp_path / "note"
    fails = "import sys, time; time.sleep(1); [print('line', n) for n in range(100)]; sys.exit('FAILED: the reason')"
    began = time.monotonic()
    with pytest.raises(Failure) as failed:
        together([program("cluster", PATIENT, note), program("build images", fails)], {})
    text = str(failed.value)
    assert text.startswith("build images: `python -c ")
    assert "ended with code 1:\n" in text
    assert "  FAILED: the reason\ncluster was interrupted; its finished work is kept." in text
    assert "line 50\n" not in text, "the message must not hold the whole log"
    assert note.read_text() == "interrupted once\n"
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_reaches_every_program_once_and_is_waited_for(tmp_path: Path, number: int) -> None:
    note = tmp_path / "note"
    text = (
        "import sys; from ci.deploy.parallel import Program, together\nfrom ci.common.console import main\n"
        "words = ('-c', *sys.argv[1:])\n"
        "main(lambda: together([Program('a', words), Program('b', words)], {}) and None)"
    )
    words = [sys.executable, "-c", text, PATIENT, str(note)]

    def heed() -> None:
        signal.signal(number, signal.SIG_DFL)  # `nohup` and `&` of a script let all their programs ignore it

    with subprocess.Popen(
        words, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, process_group=0, preexec_fn=heed
    ) as parent:
        assert parent.stdout is not None
        waiting = 0
        while waiting < 2:
            waiting += "waiting" in parent.stdout.readline()
        os.killpg(parent.pid, number)  # as a terminal does
        assert parent.wait(30) == 130
    assert note.read_text() == "interrupted once\n" * 2
