"""An intact bundle predicts the recorded prices; a damaged one is refused with the reason."""

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

from core.errors import BundleError
from core.features.columns import FINGERPRINT
from core.features.matrix import build_features
from core.listing.parsing import parse_listings
from core.listing.schema import RAW_SCHEMA
from core.model.bundle import FILES, INTERVALS, MANIFEST, OPTIONAL, Bundle, golden_sample, load_bundle, write_bundle
from core.model.estimates import baseline
from core.model.sales import PLACES, ROWS
from core.pyfunc import _load_pyfunc

from .conftest import Trained

EVERY = (*FILES, *OPTIONAL, MANIFEST)


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.folder, tmp_path / "copy"))


def rewrite(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file and its digest in the manifest: an intact bundle, but of another program."""
    content = json.dumps(change(json.loads((folder / name).read_text()))).encode()
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {name: hashlib.sha256(content).hexdigest()}))


def of_each_group(content: Any, **changes: list[Any]) -> Any:
    """Intervals with other numbers; each group has one bin."""
    return content | {"groups": [{"edges": [], "low": [0.5], "high": [2.0]} | changes for _ in content["groups"]]}


def refusal(folder: Path) -> str:
    """The reason why a bundle is refused; empty if it is accepted."""
    try:
        load_bundle(folder)
    except BundleError as error:
        return str(error)
    return ""


def test_bundle_predicts_the_same_prices_as_its_model(trained: Trained) -> None:
    bundle = load_bundle(trained.folder)
    raw = trained.rows.tail(300)
    matrix = build_features(raw, bundle.encodings)
    expected = np.exp(baseline(matrix) + np.asarray(trained.booster.predict(matrix)))
    assert np.array_equal(bundle.predict(raw), expected)
    bundle.check_golden()


def test_golden_listings_include_one_with_only_nulls_and_have_no_price(trained: Trained) -> None:
    bundle = load_bundle(trained.folder)
    assert len(bundle.golden_listings) == len(bundle.golden_prices) == 13
    assert all("price" not in listing for listing in bundle.golden_listings)
    assert set(bundle.golden_listings[-1].values()) == {None}
    assert len(set(bundle.golden_prices)) > 6, "golden listings must distinguish models"


@pytest.mark.parametrize("rows", [0, 1, 11, 12, 13, 2500])
def test_golden_sample_of_any_number_of_rows(trained: Trained, rows: int) -> None:
    source = trained.rows.head(rows)
    sample = golden_sample(source)
    assert sample.height == min(rows, 12) + 1
    assert dict(sample.schema) == RAW_SCHEMA
    if rows >= 24:
        places = [source["street"].to_list().index(street) for street in sample["street"].drop_nulls()]
        assert np.diff(places).min() >= rows // 12, "golden listings must be spread over all rows"


def test_same_model_has_the_same_bundle(trained: Trained, tmp_path: Path) -> None:
    bundle = load_bundle(trained.folder)
    again = write_bundle(
        tmp_path,
        (trained.folder / "model.txt").read_text(),
        bundle.encodings,
        golden_sample(trained.rows),
        bundle.intervals,
        bundle.sales,
    )
    assert again == trained.sha256 == hashlib.sha256((trained.folder / MANIFEST).read_bytes()).hexdigest()
    assert bundle.fingerprint == FINGERPRINT


@pytest.mark.parametrize("name", EVERY)
def test_any_flipped_bit_is_detected(copy: Path, name: str) -> None:
    good = (copy / name).read_bytes()
    draw = random.Random(name)  # noqa: S311 - a sample, not a secret
    size = len(good) * 8
    for bit in sorted({0, 1, size - 1, *(draw.randrange(size) for _ in range(150))}):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        (copy / name).write_bytes(bad)
        assert str(copy) in refusal(copy), f"flipped bit {bit} of {name} was not detected"


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("left", [0.0, 0.5, 0.999])
def test_truncation_is_detected(copy: Path, name: str, left: float) -> None:
    good = (copy / name).read_bytes()
    (copy / name).write_bytes(good[: int(len(good) * left)])
    with pytest.raises(BundleError, match=re.escape(str(copy))):
        load_bundle(copy)


@pytest.mark.parametrize("name", EVERY)
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        load_bundle(copy)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        load_bundle(tmp_path / "nowhere")


def test_manifest_that_lists_other_files_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(manifest | {"extra.py": "0" * 64}))
    with pytest.raises(BundleError, match=re.escape("extra.py")):
        load_bundle(copy)


def test_other_fingerprint_is_refused_with_both_fingerprints_and_a_remedy(copy: Path) -> None:
    rewrite(copy, "metadata.json", lambda content: content | {"fingerprint": "foreign"})
    with pytest.raises(BundleError, match=rf"features foreign, this program has {FINGERPRINT}: deploy the matching"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("metadata.json", lambda _: []),
        ("metadata.json", lambda _: {}),
        ("golden.json", lambda _: None),
        ("golden.json", lambda content: {"listings": content["listings"]}),
        (
            "encodings.json",
            lambda content: content | {"tables": {name: content["tables"][name] for name in ("state", "city")}},
        ),
        ("encodings.json", lambda content: content | {"tables": 5}),
        ("golden.json", lambda content: {name: value for name, value in content.items() if name != "low"}),
        (PLACES, lambda _: []),
        (PLACES, lambda content: content | {"format": 2}),
        (PLACES, lambda content: content | {"cities": content["cities"][:-1]}),
        (PLACES, lambda content: content | {"cities": content["cities"][::-1]}),
        (PLACES, lambda content: content | {"cities": [["", ""]] * len(content["cities"])}),
        (PLACES, lambda content: content | {"groups": content["groups"][:-1]}),
        (PLACES, lambda content: content | {"groups": [[at, 1, 2**62] for at, *_ in content["groups"]]}),
        (PLACES, lambda content: content | {"groups": [["a", "b", "c"]]}),
        (PLACES, lambda content: content | {"groups": [[0, 1]]}),
        ("ranges.json", lambda _: None),
        ("ranges.json", lambda _: []),
        ("ranges.json", lambda content: content | {"level": 0.9}),
        ("ranges.json", lambda content: content | {"groups": content["groups"][:-1]}),
        ("ranges.json", lambda content: of_each_group(content, low=[1.5])),
        ("ranges.json", lambda content: of_each_group(content, low=[0.5, 0.5])),
        ("ranges.json", lambda content: of_each_group(content, high=[float("nan")])),
        ("ranges.json", lambda content: of_each_group(content, high=[float("inf")])),
        ("ranges.json", lambda content: of_each_group(content, edges=[2e5, 1e5], low=[1] * 3, high=[1] * 3)),
        ("ranges.json", lambda content: of_each_group(content, edges=["many"], low=[1] * 2, high=[1] * 2)),
    ],
)
def test_intact_bundle_of_another_form_is_refused(copy: Path, name: str, change: Callable[[Any], Any]) -> None:
    rewrite(copy, name, change)
    with pytest.raises(BundleError, match="malformed"):
        load_bundle(copy)


def test_changed_price_of_a_golden_listing_is_detected(copy: Path) -> None:
    rewrite(copy, "golden.json", lambda content: content | {"prices": [1.0001 * price for price in content["prices"]]})
    with pytest.raises(BundleError, match=r"golden listing 0: the price is .* train again"):
        load_bundle(copy).check_golden()


@pytest.mark.parametrize("end", ["low", "high"])
def test_changed_interval_of_a_golden_listing_is_detected(copy: Path, end: str) -> None:
    rewrite(copy, "golden.json", lambda content: content | {end: [*content[end][:-1], 1.0001 * content[end][-1]]})
    with pytest.raises(BundleError, match=rf"golden listing 12: the {end} end of the interval is .* train again"):
        load_bundle(copy).check_golden()
    rewrite(copy, "ranges.json", of_each_group)
    with pytest.raises(BundleError, match="golden listing 0: the low end of the interval is"):
        load_bundle(copy).check_golden()


def test_listing_has_the_same_price_and_interval_alone_and_among_others(trained: Trained) -> None:
    bundle, listings = load_bundle(trained.folder), trained.rows.drop("price").to_dicts()
    estimated = bundle.estimate(trained.rows)
    assert [bundle.estimate_one(listing) for listing in listings] == [estimated.row(at) for at in range(len(listings))]


@pytest.mark.parametrize("field", ["price", "low", "high"])
def test_golden_listing_with_another_price_alone_is_detected(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    right = Bundle.estimate_one

    def wrong(bundle: Bundle, listing: dict[str, Any]) -> dict[str, float | None]:
        estimate = right(bundle, listing)
        changed = {field: math.nextafter(float(estimate[field] or 0), 0)}
        return estimate | changed if listing["state"] is None else estimate

    monkeypatch.setattr(Bundle, "estimate_one", wrong)
    with pytest.raises(BundleError, match=r"golden listing 12 has .* alone and .* among others"):
        load_bundle(trained.folder).check_golden()


def test_bundle_of_an_earlier_release_has_the_same_prices_without_intervals(trained: Trained, tmp_path: Path) -> None:
    new = load_bundle(trained.folder)
    write_bundle(
        tmp_path, (trained.folder / "model.txt").read_text(), new.encodings, golden_sample(trained.rows.tail(90))
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*FILES, MANIFEST)), "files of earlier releases"
    assert set(json.loads((tmp_path / "golden.json").read_text())) == {"listings", "prices"}
    old, raw = load_bundle(tmp_path), trained.rows.head(100)
    old.check_golden()
    estimated = old.estimate(raw)
    assert (estimated.low, estimated.high) == (None, None)
    assert np.array_equal(estimated.prices, new.estimate(raw).prices)
    assert np.array_equal(estimated.prices, new.predict(raw))
    assert estimated.row(7) == {"price": estimated.prices[7], "low": None, "high": None}


def test_missing_intervals_of_a_bundle_are_detected(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    del manifest[INTERVALS]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="only one of the model and its golden listings has intervals"):
        load_bundle(copy)


@pytest.mark.parametrize("name", [PLACES, ROWS])
def test_one_of_the_two_files_of_the_sales_is_not_enough(copy: Path, name: str) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    del manifest[name]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"the manifest in .* lists"):
        load_bundle(copy)


def test_sales_outlive_the_files_of_their_bundle(copy: Path) -> None:
    sales = load_bundle(copy).sales
    assert sales is not None
    before = sales.rows.tobytes()
    shutil.rmtree(copy)
    assert sales.rows.tobytes() == before
    assert isinstance(sales.rows.base, np.memmap), "the rows are mapped and not copied"


def test_bundle_has_no_pickle_and_no_code(trained: Trained) -> None:
    assert sorted(path.name for path in trained.folder.iterdir()) == sorted(EVERY)
    for name in EVERY:
        if name == ROWS:
            np.load(trained.folder / name, allow_pickle=False)
            continue
        (trained.folder / name).read_text()  # all other files are text
        if name != "model.txt":
            json.loads((trained.folder / name).read_text())


def test_pyfunc_predicts_the_prices_of_the_bundle(trained: Trained) -> None:
    bundle = load_bundle(trained.folder)
    raw = trained.rows.head(40).with_columns(city=pl.when(pl.int_range(40) % 3 == 0).then(None).otherwise("city"))
    loaded = _load_pyfunc(str(trained.folder))
    assert np.array_equal(loaded.predict(raw.to_pandas()), bundle.predict(raw))
    few = raw.select("bed", "city")
    assert np.array_equal(loaded.predict(few.to_pandas()), bundle.predict(parse_listings(few.to_dicts())))
