"""Keys of the object store. Stored objects depend on them, so a key must never change."""

from __future__ import annotations

from core.stores import layout

SHA256 = "0123456789abcdef" * 4


def test_keys_of_a_batch() -> None:
    assert layout.raw_key(3, SHA256) == "raw/0003-0123456789ab.parquet"
    assert layout.quarantine_key(3) == "quarantine/0003.parquet"
    assert layout.report_key(3, "json") == "reports/0003.json"
    assert layout.fingerprints_key(3) == "fingerprints/0003.parquet"
    assert layout.clean_key(3, "train") == "clean/0003/train.parquet"
    assert layout.encoded_key(3, "train") == "encoded/0003/train.npz"
    assert layout.profile_key(1, 3, SHA256) == "profiles/1/0003-0123456789ab.parquet"


def test_key_of_a_search() -> None:
    assert layout.search_key("2024-a") == "search/2024-a.json"


def test_prefixes_select_the_keys_of_all_batches() -> None:
    assert layout.report_key(12_345, "html").startswith(layout.REPORTS)
    assert layout.raw_key(12_345, SHA256).startswith(layout.RAW)
    assert layout.fingerprints_key(12_345).startswith(layout.FINGERPRINTS)
