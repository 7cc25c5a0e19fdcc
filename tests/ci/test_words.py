"""The check of words finds each phrase that it refuses, and accepts the replacements."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.checks import words
from ci.common.console import Failure


@pytest.mark.parametrize(
    ("source", "line", "phrase"),
    [
        ("a = 1\ntold = 2\n", 2, "told"),
        ("for found in ():\n    pass\n", 1, "found"),
        ("def known(given: int) -> None: ...\n", 1, "given"),
        ('def work() -> None:\n    """Do it.\n\n    It is no number.\n    """\n', 4, "is no"),
        ('"""What a chart renders."""\n', 1, "What a chart renders."),
        ('"""Does it. Who asks waits."""\n', 1, "Who asks waits."),
        ('"""An address.\n\nAs `10.46.0.1/32`.\n"""\n', 3, "As `____________`."),
        ("x = 1  # a file of no release\n", 1, "of no"),
        ("# begins here, and\n# whoever reads goes on\n", 2, "whoever"),
        ('raise ValueError(f"{x} cannot be mended")\n', 1, "mended"),
    ],
)
def test_finds_it_in_python(source: str, line: int, phrase: str) -> None:
    assert (line, phrase) in {(one.line, one.phrase) for one in words.in_python("a.py", source)}


@pytest.mark.parametrize(
    ("source", "line", "phrase"),
    [
        ("# Title\n\nText.\nIt mends it.\n", 4, "mends"),
        ("Text.\n\n- What is late is named.\n", 3, "What is late is named."),
        ("| a | b |\n|---|---|\n| x | is no bill |\n", 3, "is no"),
        ("```sh\nis no\n```\n\nIt is no bill.\n", 5, "is no"),
    ],
)
def test_finds_it_in_markdown(source: str, line: int, phrase: str) -> None:
    assert [(one.line, one.phrase) for one in words.in_markdown("a.md", source)] == [(line, phrase)]


def test_finds_it_in_yaml_comments_only() -> None:
    source = "known: it is no value\nport: 1 # whoever asks\n# it mends\n"
    assert {(one.line, one.phrase) for one in words.in_comments("a.yaml", source)} == {(2, "whoever"), (3, "mends")}


@pytest.mark.parametrize(
    "source",
    [
        '"""There is no cluster. It is no longer there: is it a question? What is a ledger?"""\n',
        "matches = 1  # the number is not a price\n",
        '"""Example: `10.46.0.1/32`. Recommended, amendment."""\n',
        '"""Reads `told` and `what is stored`."""\n',
        'given_names = {"found": 1}\n',
    ],
)
def test_accepts_plain_text(source: str) -> None:
    assert list(words.in_python("a.py", source)) == []


def test_finding_names_place_phrase_and_replacement() -> None:
    [one] = words.in_python("a.py", "# it mends\n")
    assert str(one) == "a.py:1: 'mends': write fix"


def test_finding_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one/a.py", "other/b.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("# it mends\n")
    monkeypatch.setattr(words, "prose", lambda: ["one/a.py", "other/b.py"])
    monkeypatch.setattr(words.findings, "__defaults__", (tmp_path,))
    for folders, count in ((["."], 2), (["one"], 1)):
        with pytest.raises(Failure, match=rf"^{count} phrases to replace"):
            words.check(folders)
    first = "one/a.py:1: 'mends': write fix\n"
    assert capsys.readouterr().out == first + "other/b.py:1: 'mends': write fix\n" + first
    words.check(["none"])


def test_kept_phrases_are_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = words.KEPT
    monkeypatch.setattr(words, "KEPT", {})
    for path, phrase in kept:
        assert phrase in {one.phrase for one in words.findings(path)}, f"{path} lacks {phrase!r}: remove it from KEPT"
