"""Tests of the contract of `core.stores.objects.Store`. A test file with a fixture `store` subclasses them."""

from __future__ import annotations

import pytest

from core.errors import StorageError
from core.stores.objects import Store


class StoreContract:
    def test_put_again_replaces(self, store: Store) -> None:
        assert store.put("a", b"one") == store.put("a", b"two")
        assert store.get("a") == b"two"
        assert store.keys("") == ["a"]

    def test_keys_start_with_the_prefix_and_are_sorted(self, store: Store) -> None:
        for key in ("raw/2", "raw/1", "rawer", "clean/1/train"):
            store.put(key, b"")
        assert store.keys("raw/") == ["raw/1", "raw/2"]
        assert store.keys("raw") == ["raw/1", "raw/2", "rawer"]
        assert store.keys("nothing") == []
        assert (store.exists("raw/1"), store.exists("raw"), store.exists("raw/3")) == (True, False, False)

    def test_version_changes_with_the_content(self, store: Store) -> None:
        store.put("a", b"one")
        first = store.version("a")
        assert store.version("a") == first
        store.put("a", b"other")
        assert store.version("a") != first
        with pytest.raises(StorageError):
            store.version("none")

    def test_proof_of_writing_leaves_nothing(self, store: Store) -> None:
        before = store.keys("")
        store.prove_writable()
        assert store.keys("") == before
