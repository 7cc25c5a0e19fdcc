"""The result of one check, and a table of results."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"
MARKS = {OK: "ok  ", WARN: "WARN", FAIL: "FAIL", SKIP: "-   "}


@dataclass(frozen=True)
class Result:
    """Result of one check."""

    check: str
    level: str  # ok, warn, fail, or skip if it was not checked
    what: str
    fix: str = ""  # remedy, a command if possible; "" if none is needed

    def to_json(self) -> dict[str, str]:
        """The fields of `make doctor ARGS=--json`."""
        return {"check": self.check, "level": self.level, "what": self.what, "remedy": self.fix}


def ok(check: str, what: str) -> Result:
    """The check passed."""
    return Result(check, OK, what)


def warn(check: str, what: str, fix: str) -> Result:
    """The platform may fail to run."""
    return Result(check, WARN, what, fix)


def fail(check: str, what: str, fix: str) -> Result:
    """The platform will not run."""
    return Result(check, FAIL, what, fix)


def skip(check: str, why: str) -> Result:
    """The check was skipped."""
    return Result(check, SKIP, why)


def table(results: list[Result]) -> str:
    """Results as text: a line per check, and its fix below."""
    width = max(len(one.check) for one in results)
    lines = []
    for one in results:
        lines.append(f"{MARKS[one.level]}  {one.check:<{width}}  {one.what}")
        if one.fix:
            lines.append(f"{'':<{width + 8}}-> {one.fix}")
    counts = {level: sum(one.level == level for one in results) for level in MARKS}
    lines.append(f"\n{counts[OK]} ok, {counts[WARN]} warnings, {counts[FAIL]} failed, {counts[SKIP]} not looked at")
    return "\n".join(lines)
