"""The object store: objects by key, in a bucket of an S3 server or in a folder. No other module knows which."""

from __future__ import annotations

import io
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException

from core.errors import StorageError
from core.stores import layout

_TIMEOUT = urllib3.Timeout(connect=5, read=120)
_PROBE = bytes(2**20)
_DRAFT = ".draft-"  # prefix of the file of an object that is being written
_RETRIES = urllib3.Retry(total=5, backoff_factor=0.5, status_forcelist=(500, 502, 503, 504))


class Store(Protocol):
    """Reads and writes whole objects. A write is atomic: it replaces the object, or changes nothing."""

    def put(self, key: str, content: bytes) -> str:
        """Write an object and return its URI."""

    def put_file(self, key: str, path: Path) -> str:
        """Write a file's content as an object and return its URI."""

    def get(self, key: str) -> bytes:
        """Read an object.

        Raises:
            StorageError: the object does not exist, or the store does not answer.
        """

    def get_file(self, key: str, path: Path) -> None:
        """Read an object into a file."""

    def exists(self, key: str) -> bool:
        """True if the object exists."""

    def version(self, key: str) -> str:
        """A text that identifies the content of an object and changes when the content is replaced.

        Raises:
            StorageError: the object does not exist, or the store does not answer.
        """

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""

    def prove_writable(self) -> None:
        """Write an object and remove it again, with all its versions.

        Raises:
            StorageError: the store does not accept writes, for example because its disk is full.
        """


def open_store(uri: str, endpoint: str = "", access_key: str = "", secret_key: str = "") -> Store:
    """Open the store at `s3://bucket/prefix` (on the server `endpoint`) or `file:///folder`.

    Raises:
        StorageError: the URI has another form.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.path:
        return FolderStore(Path(parts.path))
    if parts.scheme == "s3" and parts.netloc and endpoint:
        return BucketStore(parts.netloc, parts.path.strip("/"), endpoint, access_key, secret_key)
    raise StorageError(
        f"{uri!r} is not the URI of an object store: use s3://bucket and set S3_ENDPOINT, or file:///folder"
    )


class BucketStore:
    """A bucket of an S3 server."""

    def __init__(self, bucket: str, prefix: str, endpoint: str, access_key: str, secret_key: str) -> None:
        parts = urlsplit(endpoint)
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._client = Minio(
            parts.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=parts.scheme == "https",
            region="us-east-1",
            http_client=urllib3.PoolManager(timeout=_TIMEOUT, retries=_RETRIES),
        )

    def _fail(self, key: str, error: Exception) -> StorageError:
        return StorageError(f"the object store failed on s3://{self._bucket}/{self._prefix}{key}: {error}")

    def put(self, key: str, content: bytes) -> str:
        """Write an object."""
        try:
            self._client.put_object(self._bucket, self._prefix + key, io.BytesIO(content), len(content))
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._fail(key, error) from error
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def put_file(self, key: str, path: Path) -> str:
        """Write a file's content as an object."""
        try:
            self._client.fput_object(self._bucket, self._prefix + key, str(path))
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._fail(key, error) from error
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def get(self, key: str) -> bytes:
        """Read an object."""
        try:
            response = self._client.get_object(self._bucket, self._prefix + key)
            try:
                content: bytes = response.read()
            finally:
                response.close()
                response.release_conn()
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._fail(key, error) from error
        return content

    def get_file(self, key: str, path: Path) -> None:
        """Read an object into a file."""
        try:
            self._client.fget_object(self._bucket, self._prefix + key, str(path))
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._fail(key, error) from error

    def exists(self, key: str) -> bool:
        """True if the object exists."""
        return key in self.keys(key)

    def version(self, key: str) -> str:
        """The ETag of an object."""
        try:
            return str(self._client.stat_object(self._bucket, self._prefix + key).etag)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._fail(key, error) from error

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""
        try:
            objects = self._client.list_objects(self._bucket, self._prefix + prefix, recursive=True)
            return sorted(str(item.object_name).removeprefix(self._prefix) for item in objects)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._fail(prefix, error) from error

    def prove_writable(self) -> None:
        """Write an object and remove it again."""
        try:
            name = self._prefix + layout.PROBE
            probe = self._client.put_object(self._bucket, name, io.BytesIO(_PROBE), len(_PROBE))
            self._client.remove_object(self._bucket, name, version_id=probe.version_id)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._fail(layout.PROBE, error) from error


class FolderStore:
    """A folder, for `make demo` and tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, content: bytes) -> str:
        """Write an object."""
        return self._put(key, lambda draft: draft.write_bytes(content))

    def put_file(self, key: str, path: Path) -> str:
        """Write a file's content as an object, without loading it into memory."""
        return self._put(key, lambda draft: shutil.copyfile(path, draft))

    def _put(self, key: str, write: Callable[[Path], object]) -> str:
        target = self._folder / key
        draft = target.with_name(f"{_DRAFT}{secrets.token_hex(4)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write(draft)
            draft.replace(target)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise StorageError(f"the folder store failed on {target}: {error}") from error
        return target.as_uri()

    def get(self, key: str) -> bytes:
        """Read an object."""
        try:
            return (self._folder / key).read_bytes()
        except OSError as error:
            raise StorageError(f"the folder store failed on {self._folder / key}: {error}") from error

    def get_file(self, key: str, path: Path) -> None:
        """Read an object into a file, without loading it into memory."""
        try:
            shutil.copyfile(self._folder / key, path)
        except OSError as error:
            raise StorageError(f"the folder store failed on {self._folder / key}: {error}") from error

    def exists(self, key: str) -> bool:
        """True if the object exists."""
        return (self._folder / key).is_file()

    def version(self, key: str) -> str:
        """Modification time, inode and size of a file."""
        try:
            status = (self._folder / key).stat()
        except OSError as error:
            raise StorageError(f"the folder store failed on {self._folder / key}: {error}") from error
        return f"{status.st_mtime_ns}-{status.st_ino}-{status.st_size}"

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""
        keys = (path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file())
        return sorted(key for key in keys if key.startswith(prefix) and not Path(key).name.startswith(_DRAFT))

    def prove_writable(self) -> None:
        """Write an object and remove it again."""
        self.put(layout.PROBE, _PROBE)
        (self._folder / layout.PROBE).unlink(missing_ok=True)
