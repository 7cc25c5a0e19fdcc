"""A corpus of damaged bundles that must never serve. Each is a good bundle with one named damage.

There are two families. Some bundles are damaged after their registration, so the registry has the sha256 of the good
manifest. The others are registered in their damaged form, so every sha256 is right, and only a check of the content can
find the damage. The same bundle and name always give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.model.bundle import FILES, INTERVALS, MANIFEST, OPTIONAL
from core.model.sales import PLACES, ROWS

PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\n"
HUGE_BYTES = 65 * 2**20  # more than fastapi.config.maxBundleBytes
Change = Callable[[Path], object]


@dataclass(frozen=True)
class Damage:
    """A change to a copy of a good bundle."""

    name: str
    change: Change
    registered: bool  # true: registered in its damaged form, with right sha256 sums; false: damaged afterwards
    tag: str | None = None  # value in the registry instead of the manifest's sha256


@dataclass(frozen=True)
class Damaged:
    """A damaged bundle, and the sha256 of its manifest in the registry."""

    name: str
    folder: Path
    manifest_sha256: str


def damaged(damage: Damage, good: Path, folder: Path) -> Damaged:
    """Copy the bundle `good` to `folder`, which must not exist, and damage the copy."""
    shutil.copytree(good, folder)
    sha256 = _sha256(folder / MANIFEST)
    damage.change(folder)
    if damage.registered:
        if damage.name.split(":")[0] != MANIFEST:
            write_manifest(folder)
        sha256 = _sha256(folder / MANIFEST)
    return Damaged(damage.name, folder, sha256 if damage.tag is None else damage.tag)


def write_manifest(folder: Path) -> None:
    """Write a manifest of the files in their present form."""
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    (folder / MANIFEST).write_text(json.dumps({name: _sha256(folder / name) for name in names}))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def _flip(content: bytes) -> bytes:
    draw = random.Random(len(content))  # noqa: S311 - not a secret
    flipped = bytearray(content)
    flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


_BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "half of it is missing": lambda content: content[: len(content) // 2],
    "its last byte is missing": lambda content: content[:-1],
    "a byte too many": lambda content: content + b"\n",
    "a flipped bit": _flip,
    "zeroed": lambda content: bytes(len(content)),
    "empty": lambda _: b"",
    "a web page instead": lambda _: PAGE,
}


def _text(change: Callable[[str], str]) -> Change:
    return _bytes("model.txt", lambda content: change(content.decode()).encode())


def _sub(pattern: str, replacement: str | Callable[[re.Match[str]], str], count: int = 0) -> Change:
    """Replaces lines in the model's text. The pattern must occur.

    It also removes the line with the sizes of the trees, which is optional: LightGBM would fail on wrong sizes first.
    """

    def change(text: str) -> str:
        changed, matches = re.subn(pattern, replacement, text, count=count, flags=re.MULTILINE)
        assert matches, f"no {pattern!r} in model.txt"
        return changed if "tree_sizes" in pattern else re.sub(r"^tree_sizes=.*\n", "", changed, flags=re.MULTILINE)

    return _text(change)


def _every(value: str) -> Callable[[re.Match[str]], str]:
    """Replaces all numbers of a line by one value."""
    return lambda line: f"{line[1]}={' '.join([value] * len(line[2].split()))}"


def _last_leaf(text: str) -> str:
    """Sets one leaf of the last tree to NaN. Golden listings may not reach it."""
    before, line, after = text.rpartition("leaf_value=")
    _, newline, after = after.partition("\n")
    values = text[len(before) + len(line) :].partition("\n")[0].split()
    return before + line + " ".join([*values[:-1], "nan"]) + newline + after


def _columns(more: int) -> Change:
    """Changes the number of features in every line of the model that states it."""

    def change(text: str) -> str:
        at = int(re.search(r"^max_feature_idx=(\d+)$", text, re.MULTILINE)[1]) + more  # type: ignore[index]
        text = re.sub(r"^max_feature_idx=.*$", f"max_feature_idx={at}", text, flags=re.MULTILINE)
        return re.sub(
            r"^(feature_names|feature_infos)=(.*)$",
            lambda line: f"{line[1]}={' '.join([*line[2].split(), '[0:1]'][: at + 1])}",
            text,
            flags=re.MULTILINE,
        )

    return _text(change)


_MODEL: dict[str, Change] = {
    "cut in the middle of a tree": _text(lambda text: text[: int(len(text) * 0.3)]),
    "cut after some trees": _text(lambda text: text[: text.index("Tree=5\n")]),
    "no content": _bytes("model.txt", lambda _: b""),
    "only zeros": _bytes("model.txt", lambda content: bytes(len(content))),
    "a web page": _bytes("model.txt", lambda _: PAGE),
    "noise": _bytes("model.txt", lambda content: random.Random(1).randbytes(len(content))),  # noqa: S311
    "no trees": _text(lambda text: text[: text.index("tree_sizes")] + "tree_sizes=\n\nend of trees\n"),
    "a tree that never ends": _sub(r"^(left_child|right_child)=(.*)$", _every("0")),
    "a tree with children that do not exist": _sub(r"^(left_child|right_child)=(.*)$", _every("30000")),
    "a tree of two billion leaves": _sub(r"^num_leaves=.*$", "num_leaves=2000000000", 1),
    "a tree of minus one leaf": _sub(r"^num_leaves=.*$", "num_leaves=-1", 1),
    "trees of wrong sizes": _sub(r"^(tree_sizes)=(.*)$", _every("17")),
    "splits by a feature that does not exist": _sub(r"^(split_feature)=(.*)$", _every("999")),
    "thresholds that are not numbers": _sub(r"^(threshold)=(.*)$", _every("nan")),
    "leaves that are not numbers": _sub(r"^(leaf_value)=(.*)$", _every("nan")),
    "one leaf that is not a number": _text(_last_leaf),
    "infinite leaves": _sub(r"^(leaf_value)=(.*)$", _every("inf")),
    "leaves larger than any price": _sub(r"^(leaf_value)=(.*)$", _every("1e308")),
    "leaves of words": _sub(r"^(leaf_value)=(.*)$", _every("house")),
    "leaves of another model": _sub(r"^(leaf_value)=(.*)$", _every("0.5")),
    "one feature more": _columns(1),
    "one feature fewer": _columns(-1),
    "a billion features": _sub(r"^max_feature_idx=.*$", "max_feature_idx=1000000000"),
    "three prices for each house": _sub(
        r"^num_class=1\nnum_tree_per_iteration=1$", "num_class=3\nnum_tree_per_iteration=3"
    ),
    "another objective": _sub(r"^objective=.*$", "objective=binary sigmoid:1"),
}


def _json(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda folder: (folder / name).write_text(json.dumps(change(json.loads((folder / name).read_text()))))


def _with(name: str, **changes: Any) -> Change:
    return _json(name, lambda content: content | changes)


def _deep(name: str) -> Change:
    return lambda folder: (folder / name).write_text("[" * 100_000 + "]" * 100_000)


_WHOLE: dict[str, Change] = {f"model.txt: {name}": change for name, change in _MODEL.items()} | {
    "encodings.json: an empty object": _json("encodings.json", lambda _: {}),
    "encodings.json: a list": _json("encodings.json", lambda _: []),
    "encodings.json: no tables": _with("encodings.json", tables={}),
    "encodings.json: not a number": _with("encodings.json", intercept=float("nan")),
    "encodings.json: an infinite number": _with("encodings.json", intercept=float("inf")),
    "encodings.json: a number out of range": _bytes(
        "encodings.json", lambda content: re.sub(rb'"intercept": ?[-0-9.e]+', b'"intercept":1e999', content)
    ),
    "encodings.json: words as numbers": _with("encodings.json", coefficients=["house"]),
    "encodings.json: too many coefficients": _json(
        "encodings.json", lambda content: content | {"coefficients": [*content["coefficients"], 1.0]}
    ),
    "encodings.json: another intercept": _json(
        "encodings.json", lambda content: content | {"intercept": content["intercept"] + 1}
    ),
    "encodings.json: nested without end": _deep("encodings.json"),
    "golden.json: no listings": _with("golden.json", listings=[], prices=[]),
    "golden.json: one price too few": _json(
        "golden.json", lambda content: content | {"prices": content["prices"][:-1]}
    ),
    "golden.json: prices that are not numbers": _json(
        "golden.json", lambda content: content | {"prices": [float("nan")] * len(content["prices"])}
    ),
    "golden.json: infinite prices": _json(
        "golden.json", lambda content: content | {"prices": [float("inf")] * len(content["prices"])}
    ),
    "golden.json: negative prices": _json(
        "golden.json", lambda content: content | {"prices": [-price for price in content["prices"]]}
    ),
    "golden.json: slightly different prices": _json(
        "golden.json", lambda content: content | {"prices": [price * 1.001 for price in content["prices"]]}
    ),
    "golden.json: listings of words": _json(
        "golden.json", lambda content: content | {"listings": ["house"] * len(content["prices"])}
    ),
    "golden.json: nested without end": _deep("golden.json"),
    "golden.json: intervals of another model": _json(
        "golden.json", lambda content: content | {"high": [price * 2 for price in content["high"]]}
    ),
    "ranges.json: an empty object": _json(INTERVALS, lambda _: {}),
    "ranges.json: no groups": _with(INTERVALS, groups=[]),
    "ranges.json: nested without end": _deep(INTERVALS),
    "sales.json: an empty object": _json(PLACES, lambda _: {}),
    "sales.json: sales that the rows do not have": _with(PLACES, groups=[[0, 1001, 10**9]]),
    "sales.json: nested without end": _deep(PLACES),
    "sales.npy: a pickle": _bytes(ROWS, lambda _: b"\x80\x04K\x01."),
    "sales.npy: more rows than bytes": _bytes(ROWS, lambda content: content.replace(b"'shape': (", b"'shape': (9", 1)),
    "sales.npy: half of its rows": _bytes(ROWS, lambda content: content[: len(content) // 2]),
    "sales.npy: infinite numbers": _bytes(
        ROWS, lambda content: content[:128] + b"\x00\x00\x80\x7f" * (len(content[128:]) // 4)
    ),
    "metadata.json: features of another program": _with("metadata.json", fingerprint="91bc91bc91bc91bc"),
    "metadata.json: no fingerprint": _json("metadata.json", lambda _: {}),
    "metadata.json: a LightGBM of the future": _with("metadata.json", libraries={"lightgbm": "99.0.0"}),
    "metadata.json: nested without end": _deep("metadata.json"),
    "manifest.json: one file more": _json(MANIFEST, lambda content: content | {"extra.py": "0" * 64}),
    "manifest.json: one file fewer": _json(
        MANIFEST, lambda content: {name: sha256 for name, sha256 in content.items() if name != "model.txt"}
    ),
    "manifest.json: a file outside of the folder": _json(
        MANIFEST, lambda content: content | {"../../../etc/passwd": "0" * 64}
    ),
    "manifest.json: a list": _json(MANIFEST, list),
    "manifest.json: nested without end": _deep(MANIFEST),
}


def _exchange(folder: Path) -> None:
    draft = (folder / "model.txt").rename(folder / "draft")
    (folder / "encodings.json").rename(folder / "model.txt")
    draft.rename(folder / "encodings.json")


def _grow(folder: Path, size: int) -> None:
    """Make the model a large sparse file, which needs no disk space."""
    with (folder / "model.txt").open("ab") as text:
        text.truncate(size)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    (folder / "README").write_text("no other file is here\n")  # an empty folder cannot be uploaded


def _nothing(_: Path) -> None:
    """Leave the bundle intact: the damage is in its tag."""


def corpus(huge_bytes: int = HUGE_BYTES) -> list[Damage]:
    """Every damage. `huge_bytes` is the size of a model that exceeds the download limit."""
    files = (MANIFEST, *FILES, *OPTIONAL)
    damages = [
        Damage(f"{name}: {how}", _bytes(name, change), False) for name in files for how, change in _BROKEN.items()
    ]
    damages += [Damage(f"{name}: missing", lambda folder, name=name: (folder / name).unlink(), False) for name in files]  # type: ignore[misc]
    damages += [
        Damage("all files: missing", _clear, False),
        Damage("two files: exchanged", _exchange, False),
        Damage("manifest: rewritten for another model", lambda f: (_MODEL["no trees"](f), write_manifest(f)), False),
    ]
    damages += [Damage(name, change, True) for name, change in _WHOLE.items()]
    damages += [
        Damage("model.txt: larger than the download limit", partial(_grow, size=huge_bytes), True),
        Damage("tag: none", _nothing, True, tag=""),
        Damage("tag: of another bundle", _nothing, True, tag="0" * 64),
        Damage("tag: a path", _nothing, True, tag="../../../etc/passwd"),
    ]
    return damages
