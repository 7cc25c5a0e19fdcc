"""A bundle that is whole gives the recorded prices; one that is not is refused with a sentence."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from core.bundle import FILES, MANIFEST, RANGES, Bundle, baseline, golden_sample, load_bundle, write_bundle
from core.errors import BundleError
from core.features import FINGERPRINT, RAW_SCHEMA, build_features, parse_listings
from core.pyfunc import _load_pyfunc

from .conftest import Trained

EVERY = (*FILES, RANGES, MANIFEST)


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.folder, tmp_path / "copy"))


def rewrite(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file and its digest in the manifest: a bundle that is whole, but made by another program."""
    content = json.dumps(change(json.loads((folder / name).read_text()))).encode()
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {name: hashlib.sha256(content).hexdigest()}))


def of_each_group(known: Any, **changes: list[Any]) -> Any:
    """Ranges with other numbers: of a bundle whose groups have one bin each."""
    return known | {"groups": [{"edges": [], "low": [0.5], "high": [2.0]} | changes for _ in known["groups"]]}


def refusal(folder: Path) -> str:
    """Why a bundle is refused; empty if it is not."""
    try:
        load_bundle(folder)
    except BundleError as error:
        return str(error)
    return ""


def test_bundle_prices_as_the_model_it_was_made_of(trained: Trained) -> None:
    bundle = load_bundle(trained.folder)
    raw = trained.rows.tail(300)
    matrix = build_features(raw, bundle.encodings)
    want = np.exp(baseline(matrix) + np.asarray(trained.booster.predict(matrix)))
    assert np.array_equal(bundle.predict(raw), want)
    bundle.check_golden()


def test_golden_listings_hold_one_of_nothing_but_nulls_and_no_price(trained: Trained) -> None:
    bundle = load_bundle(trained.folder)
    assert len(bundle.golden_listings) == len(bundle.golden_prices) == 13
    assert all("price" not in listing for listing in bundle.golden_listings)
    assert set(bundle.golden_listings[-1].values()) == {None}
    assert len(set(bundle.golden_prices)) > 6, "golden listings must tell models apart"


@pytest.mark.parametrize("rows", [0, 1, 11, 12, 13, 2500])
def test_golden_sample_of_any_number_of_rows(trained: Trained, rows: int) -> None:
    source = trained.rows.head(rows)
    sample = golden_sample(source)
    assert sample.height == min(rows, 12) + 1
    assert dict(sample.schema) == RAW_SCHEMA
    if rows >= 24:
        places = [source["street"].to_list().index(street) for street in sample["street"].drop_nulls()]
        assert np.diff(places).min() >= rows // 12, "golden listings are to be spread over all rows"


def test_same_model_gives_the_same_bundle(trained: Trained, tmp_path: Path) -> None:
    bundle = load_bundle(trained.folder)
    again = write_bundle(
        tmp_path,
        (trained.folder / "model.txt").read_text(),
        bundle.encodings,
        golden_sample(trained.rows),
        bundle.ranges,
    )
    assert again == trained.sha256 == hashlib.sha256((trained.folder / MANIFEST).read_bytes()).hexdigest()
    assert bundle.fingerprint == FINGERPRINT


@pytest.mark.parametrize("name", EVERY)
def test_any_flipped_bit_is_found(copy: Path, name: str) -> None:
    good = (copy / name).read_bytes()
    draw = random.Random(name)  # noqa: S311 - a sample, no secret
    size = len(good) * 8
    for bit in sorted({0, 1, size - 1, *(draw.randrange(size) for _ in range(150))}):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        (copy / name).write_bytes(bad)
        assert str(copy) in refusal(copy), f"bit {bit} of {name} was flipped, and nobody noticed"


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("left", [0.0, 0.5, 0.999])
def test_truncation_is_found(copy: Path, name: str, left: float) -> None:
    good = (copy / name).read_bytes()
    (copy / name).write_bytes(good[: int(len(good) * left)])
    with pytest.raises(BundleError, match=re.escape(str(copy))):
        load_bundle(copy)


@pytest.mark.parametrize("name", EVERY)
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        load_bundle(copy)


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        load_bundle(tmp_path / "nowhere")


def test_manifest_that_lists_other_files_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(manifest | {"extra.py": "0" * 64}))
    with pytest.raises(BundleError, match=re.escape("extra.py")):
        load_bundle(copy)


def test_foreign_fingerprint_is_refused_with_both_and_a_remedy(copy: Path) -> None:
    rewrite(copy, "metadata.json", lambda known: known | {"fingerprint": "foreign"})
    with pytest.raises(BundleError, match=rf"features foreign, this program has {FINGERPRINT}: deploy the matching"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("metadata.json", lambda _: []),
        ("metadata.json", lambda _: {}),
        ("golden.json", lambda _: None),
        ("golden.json", lambda known: {"listings": known["listings"]}),
        (
            "encodings.json",
            lambda known: known | {"tables": {name: known["tables"][name] for name in ("state", "city")}},
        ),
        ("encodings.json", lambda known: known | {"tables": 5}),
        ("golden.json", lambda known: {name: value for name, value in known.items() if name != "low"}),
        ("ranges.json", lambda _: None),
        ("ranges.json", lambda _: []),
        ("ranges.json", lambda known: known | {"level": 0.9}),
        ("ranges.json", lambda known: known | {"groups": known["groups"][:-1]}),
        ("ranges.json", lambda known: of_each_group(known, low=[1.5])),
        ("ranges.json", lambda known: of_each_group(known, low=[0.5, 0.5])),
        ("ranges.json", lambda known: of_each_group(known, high=[float("nan")])),
        ("ranges.json", lambda known: of_each_group(known, high=[float("inf")])),
        ("ranges.json", lambda known: of_each_group(known, edges=[2e5, 1e5], low=[1] * 3, high=[1] * 3)),
        ("ranges.json", lambda known: of_each_group(known, edges=["many"], low=[1] * 2, high=[1] * 2)),
    ],
)
def test_whole_bundle_of_another_form_is_refused(copy: Path, name: str, change: Callable[[Any], Any]) -> None:
    rewrite(copy, name, change)
    with pytest.raises(BundleError, match="malformed"):
        load_bundle(copy)


def test_changed_price_of_a_golden_listing_is_found(copy: Path) -> None:
    rewrite(copy, "golden.json", lambda known: known | {"prices": [1.0001 * price for price in known["prices"]]})
    with pytest.raises(BundleError, match=r"golden listing 0 is priced .* train again"):
        load_bundle(copy).check_golden()


@pytest.mark.parametrize(("end", "told"), [("low", "from"), ("high", "to")])
def test_changed_range_of_a_golden_listing_is_found(copy: Path, end: str, told: str) -> None:
    rewrite(copy, "golden.json", lambda known: known | {end: [*known[end][:-1], 1.0001 * known[end][-1]]})
    with pytest.raises(BundleError, match=rf"golden listing 12 has a range {told} .* train again"):
        load_bundle(copy).check_golden()
    rewrite(copy, "ranges.json", of_each_group)
    with pytest.raises(BundleError, match="golden listing 0 has a range from"):
        load_bundle(copy).check_golden()


def test_listing_alone_has_price_and_range_as_among_others(trained: Trained) -> None:
    bundle, listings = load_bundle(trained.folder), trained.rows.drop("price").to_dicts()
    found = bundle.estimate(trained.rows)
    assert [bundle.estimate_one(listing) for listing in listings] == [found.row(at) for at in range(len(listings))]


@pytest.mark.parametrize("field", ["price", "low", "high"])
def test_golden_listing_that_has_another_price_alone_is_found(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    right = Bundle.estimate_one

    def wrong(bundle: Bundle, listing: dict[str, Any]) -> dict[str, float | None]:
        found = right(bundle, listing)
        return found | {field: math.nextafter(float(found[field] or 0), 0)} if listing["state"] is None else found

    monkeypatch.setattr(Bundle, "estimate_one", wrong)
    with pytest.raises(BundleError, match=r"golden listing 12 gives .* alone and .* among others"):
        load_bundle(trained.folder).check_golden()


def test_bundle_of_an_earlier_release_gives_the_same_prices_without_ranges(trained: Trained, tmp_path: Path) -> None:
    new = load_bundle(trained.folder)
    write_bundle(
        tmp_path, (trained.folder / "model.txt").read_text(), new.encodings, golden_sample(trained.rows.tail(90))
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*FILES, MANIFEST)), "as bundles were"
    assert set(json.loads((tmp_path / "golden.json").read_text())) == {"listings", "prices"}
    old, raw = load_bundle(tmp_path), trained.rows.head(100)
    old.check_golden()
    found = old.estimate(raw)
    assert (found.low, found.high) == (None, None)
    assert np.array_equal(found.prices, new.estimate(raw).prices)
    assert np.array_equal(found.prices, new.predict(raw))
    assert found.row(7) == {"price": found.prices[7], "low": None, "high": None}


def test_ranges_taken_out_of_a_bundle_are_missed(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    del manifest[RANGES]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="golden listings have ranges and it has none"):
        load_bundle(copy)


def test_bundle_holds_no_pickle_and_no_code(trained: Trained) -> None:
    assert sorted(path.name for path in trained.folder.iterdir()) == sorted(EVERY)
    for name in EVERY:
        (trained.folder / name).read_text()  # text, all of it
        if name != "model.txt":
            json.loads((trained.folder / name).read_text())


def test_pyfunc_gives_the_prices_of_the_bundle(trained: Trained) -> None:
    bundle = load_bundle(trained.folder)
    raw = trained.rows.head(40).with_columns(city=pl.when(pl.int_range(40) % 3 == 0).then(None).otherwise("city"))
    loaded = _load_pyfunc(str(trained.folder))
    assert np.array_equal(loaded.predict(raw.to_pandas()), bundle.predict(raw))
    few = raw.select("bed", "city")
    assert np.array_equal(loaded.predict(few.to_pandas()), bundle.predict(parse_listings(few.to_dicts())))
