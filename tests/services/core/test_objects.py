"""The folder store. `test_minio.py` tests the same contract with S3."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from core.errors import StorageError
from core.stores.objects import BucketStore, FolderStore, Store, open_store
from tests.services.core.contract import StoreContract


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/objects")


def test_object_is_read_as_it_was_written(store: Store, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10
    uri = store.put("raw/0001.parquet", content)
    assert uri == f"file://{tmp_path}/objects/raw/0001.parquet"
    assert store.get("raw/0001.parquet") == content
    store.get_file("raw/0001.parquet", tmp_path / "got")
    store.put_file("raw/copy", tmp_path / "got")
    assert store.get("raw/copy") == content


class TestFolder(StoreContract):
    """The contract of every store."""


def test_draft_of_an_interrupted_write_is_not_an_object(store: Store, tmp_path: Path) -> None:
    store.put("raw/1", b"")
    (tmp_path / "objects" / "raw" / ".draft-12345678").write_bytes(b"half")
    assert store.keys("raw/") == ["raw/1"]


def test_empty_store_has_no_keys(store: Store) -> None:
    assert store.keys("") == []


def test_missing_object_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="objects/raw/none"):
        store.get("raw/none")
    with pytest.raises(StorageError, match="objects/raw/none"):
        store.get_file("raw/none", tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_failed_write_names_the_object_and_leaves_no_draft(store: Store, tmp_path: Path) -> None:
    store.put("a", b"a file where a folder is needed")
    with pytest.raises(StorageError, match="a/b"):
        store.put("a/b", b"")
    (tmp_path / "objects" / "c").mkdir()
    with pytest.raises(StorageError, match="objects/c"):
        store.put("c", b"a folder is there")
    assert sorted(path.name for path in (tmp_path / "objects").iterdir()) == ["a", "c"], "a draft was left"


def test_reader_never_sees_half_an_object(store: Store) -> None:
    contents = {size: bytes([size]) * 200_000 for size in (1, 2)}
    store.put("key", contents[1])
    done = threading.Event()

    def write() -> None:
        for turn in range(100):
            store.put("key", contents[1 + turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert store.get("key") in contents.values()
        assert store.keys("") == ["key"], "a draft is not an object"
    writer.join()


def test_uri_selects_the_kind_of_store() -> None:
    assert isinstance(open_store("file:///objects"), FolderStore)
    assert isinstance(open_store("s3://bucket/prefix", "http://minio:9000", "key", "secret"), BucketStore)


@pytest.mark.parametrize("uri", ["", "objects", "s3://", "s3://bucket", "http://minio/bucket", "file://"])
def test_invalid_uri_is_refused_with_valid_forms(uri: str) -> None:
    with pytest.raises(StorageError, match="use s3://bucket and set S3_ENDPOINT, or file:///folder"):
        open_store(uri)


def test_store_that_accepts_no_write_is_reported(tmp_path: Path) -> None:
    (tmp_path / "objects").write_bytes(b"a file where the folder should be")
    with pytest.raises(StorageError, match="probe"):
        open_store(f"file://{tmp_path}/objects").prove_writable()
