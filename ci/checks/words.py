"""Finds phrases that the style guide replaces, in comments, docstrings, messages and pages.

python -m ci.checks.words             check the whole checkout
python -m ci.checks.words PATH ...    check only these files and folders

Each finding has its place, the phrase, and the replacement. The check knows phrases, not grammar: a text without
findings can still be hard to read.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ci.common.console import Failure, main, say
from ci.common.git import files
from ci.common.paths import CHECKOUT

# Not our prose: generated files, texts of others, and this table with its test.
SKIPPED = ("ci/checks/words.py", "tests/ci/test_words.py", "CHANGELOG.md", "tests/ci/argocd-install.yaml")
# Phrases that stay, by file, each with its reason.
KEPT = {
    ("ci/cluster/registryless/oci_image.py", "What an image consists of."): "a change of this folder renames the node "
    "image and the programs in it; change the sentence together with the code",
    ("services/pipeline/src/pipeline/validation/record.py", "told"): "a field of stored reports",
}
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".sh", ".tpl", ".toml", "Dockerfile", "Makefile", "run"}

# Names that say how a value was obtained, not what it is.
NAMES = {
    "told": "message, text, results: what the value is",
    "found": "matches, settings, body: what the value is",
    "known": "names, entries: what the value is",
    "given": "arguments, options: what the value is",
    "said": "output, message: what the value is",
    "asked": "requests, query: what the value is",
}
# Regular expressions, and what to write instead.
PHRASES = {
    r"\bof no\b": "without ..., belongs to no ...",
    r"\b(?<!there )(is|are|was|were) no\b(?! longer\b| more\b| less\b)": "is not a ...",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bwhoever\b": "clients that ..., users who ...",
    r"\bwho asks?\b": "the client, the caller",
    r"\bwhat is (told|asked|stored|known|given|said|there|wanted)\b": "name the thing",
    r"\bthe (told|asked|given) \w+": "the name of the thing",
    r"\bas people (read|write|know|name) (it|them)\b": "as text, as a table",
    r"\bbills? of materials\b": "SBOM",
    r"\btakes? it up\b|\btaken up (again )?(where|by)\b": "continues",
    r"\bnobody (looked|asked)\b": "the check was skipped",
    r"\b(all is well|is well)\b": "passes, is healthy",
    r"\bhas no such\b": "does not have",
    r"\bsays? why\b": "gives the reason, shows the reason",
    r"\bin no time\b": "quickly, with the time",
}
# A sentence whose subject is "what ..." or "who ...", and an example that is only a phrase.
SENTENCES = {
    re.compile(r"(?:^|(?<=[.:;!?]\s))(What|Who)\s[^.?!:]*(?:[.!:]|$)"): "start with the thing itself",
    re.compile(r"(?:^|(?<=[.;]\s))As `[^`]+`\."): "Example: `...`.",
}


@dataclass(frozen=True)
class Finding:
    """A phrase in a file, and what to write instead."""

    path: str
    line: int
    phrase: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.phrase!r}: write {self.instead}"


def _in_text(path: str, line: int, text: str) -> Iterator[Finding]:
    """Findings in one block of prose that starts at a line."""
    plain = re.sub(r"`[^`\n]*`", lambda match: "`" + "_" * (len(match[0]) - 2) + "`", text)  # code is not prose
    for pattern, instead in PHRASES.items():
        for match in re.finditer(pattern, plain, re.IGNORECASE):
            yield Finding(path, line + plain.count("\n", 0, match.start()), match[0], instead)
    flat = re.sub(r"\s+", " ", plain).lstrip(" -*#>")
    for sentence, instead in SENTENCES.items():
        for match in sentence.finditer(flat.rstrip()):
            offset = plain.find(" ".join(match[0].split()[:2]))
            yield Finding(path, line + plain.count("\n", 0, max(offset, 0)), match[0][:60], instead)


def _names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that a module binds, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno


def in_python(path: str, source: str) -> Iterator[Finding]:
    """Findings in names, comments, docstrings and other strings of a module."""
    tree = ast.parse(source)
    for name, line in _names(tree):
        if name in NAMES:
            yield Finding(path, line, name, NAMES[name])
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from _in_text(path, node.lineno, node.value)
    yield from _comments(
        path,
        (
            (token.start[0], token.string.lstrip("# "), token.line.lstrip().startswith("#"))
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        ),
    )


def _comments(path: str, comments: Iterable[tuple[int, str, bool]]) -> Iterator[Finding]:
    """Findings in comments: (line, text, alone on its line). Lines below one another are one text."""
    block: list[str] = []
    first = 0
    for line, text, alone in comments:
        if block and alone and line == first + len(block):
            block.append(text)
            continue
        yield from _in_text(path, first, "\n".join(block))
        block, first = [text], line
    yield from _in_text(path, first, "\n".join(block))


def in_comments(path: str, source: str) -> Iterator[Finding]:
    """Findings in comments that begin with `#` (YAML, shell, Dockerfile, TOML, Makefile)."""
    rows = ((number, re.search(r"(^|\s)#+ ?(?!!)(.*)", row)) for number, row in enumerate(source.splitlines(), 1))
    lines = source.splitlines()
    yield from _comments(
        path, ((number, row[2], lines[number - 1].lstrip().startswith("#")) for number, row in rows if row)
    )


def in_markdown(path: str, source: str) -> Iterator[Finding]:
    """Findings in the prose of a page, not in its code blocks."""
    prose = re.sub(r"^```.*?^```", lambda match: "\n" * match[0].count("\n"), source, flags=re.MULTILINE | re.DOTALL)
    first = 1
    for block in re.split(r"(\n(?:[ \t]*\n)+|\n(?=[-*|#] ?))", prose):
        for number, cell in enumerate(block.split("|") if block.lstrip().startswith("|") else [block]):
            yield from _in_text(path, first, cell.strip("\n") if number else cell)
        first += block.count("\n")


def findings(path: str, checkout: Path = CHECKOUT) -> list[Finding]:
    """All findings in a file, except those of `KEPT`."""
    source = (checkout / path).read_text()
    look = {".py": in_python, ".md": in_markdown}.get(Path(path).suffix, in_comments)
    every = {one for one in look(path, source) if (path, one.phrase) not in KEPT}
    return sorted(every, key=lambda one: (one.line, one.phrase))


def prose(checkout: Path = CHECKOUT) -> list[str]:
    """The files that are checked."""
    return [
        name for name in files(checkout)
        if (Path(name).suffix or Path(name).name) in SUFFIXES and name not in SKIPPED and (checkout / name).is_file()
    ]  # fmt: skip


def within(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of these files, or lies in one of these folders."""
    return any(Path(path).is_relative_to(folder) for folder in folders)


def check(folders: Iterable[str]) -> None:
    """Print every finding in these files and folders.

    Raises:
        Failure: there are findings.
    """
    results = [one for path in prose() if within(path, folders) for one in findings(path)]
    for one in results:
        print(one, flush=True)
    if results:
        raise Failure(f"{len(results)} phrases to replace")
    say("no phrase to replace")


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.checks.words", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", help="files or folders, relative to the checkout (default: all)")
    check(parser.parse_args().paths or ["."])


if __name__ == "__main__":
    main(_main)
