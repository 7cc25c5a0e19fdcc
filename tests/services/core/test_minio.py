"""The S3 store with a real MinIO, and the chart's program that provisions MinIO."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider
from minio.deleteobjects import DeleteObject
from minio.error import MinioAdminException, S3Error
from minio.lifecycleconfig import LifecycleConfig
from minio.versioningconfig import SUSPENDED, VersioningConfig

from ci.local.processes import free_port
from core.errors import StorageError
from core.stores.objects import Store, open_store
from tests.services.conftest import Provisioned
from tests.services.core.contract import StoreContract

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]  # MinIO is compiled first if it is not in the cache

BUCKETS = {"mlflow": "mlflow", "house-data": "pipeline", "airflow-logs": "airflow"}


def client(minio: Provisioned, user: str = "") -> Minio:
    access, secret = minio.keys[user] if user else (minio.server.access_key, minio.server.secret_key)
    return Minio(urlsplit(minio.server.endpoint).netloc, access, secret, secure=False, region="us-east-1")


@pytest.fixture
def store(minio: Provisioned, request: pytest.FixtureRequest) -> Store:
    """A store with a prefix of its own, and the keys of the pipeline."""
    prefix = re.sub(r"\W", "-", request.node.name)
    return open_store(f"s3://house-data/{prefix}", minio.server.endpoint, *minio.keys["pipeline"])


def test_object_is_read_as_it_was_written(store: Store, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50_000  # 12.8 MB: several parts
    (tmp_path / "sent").write_bytes(content)
    uri = store.put_file("raw/0001.parquet", tmp_path / "sent")
    assert uri.startswith("s3://house-data/")
    assert uri.endswith("/raw/0001.parquet")
    assert store.get("raw/0001.parquet") == content
    store.get_file("raw/0001.parquet", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == content
    store.put("empty", b"")
    assert store.get("empty") == b""


class TestBucket(StoreContract):
    """The contract of every store."""


def test_missing_object_is_named(store: Store, tmp_path: Path) -> None:
    for read in (lambda: store.get("raw/none"), lambda: store.get_file("raw/none", tmp_path / "got")):
        with pytest.raises(StorageError, match=r"the object store failed on s3://house-data/.*/raw/none: .*NoSuchKey"):
            read()
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("keys", [("pipeline-key", "wrong"), ("nobody", "pipeline-secret")])
def test_wrong_keys_are_refused_with_the_reason(minio: Provisioned, keys: tuple[str, str]) -> None:
    wrong = open_store("s3://house-data", minio.server.endpoint, *keys)
    for act in (lambda: wrong.get("a"), lambda: wrong.put("a", b""), lambda: wrong.keys("")):
        with pytest.raises(
            StorageError, match=r"failed on s3://house-data/a?: .*(SignatureDoesNotMatch|InvalidAccess)"
        ):
            act()


def test_unreachable_server_is_reported_in_bounded_time() -> None:
    away = open_store("s3://house-data", f"http://127.0.0.1:{free_port()}", "key", "secret")
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"failed on s3://house-data/a: .*[Cc]onnection refused"):
        away.get("a")
    assert time.monotonic() - began < 30


def test_new_access_key_exists_beside_the_earlier_one_until_that_is_cleaned(minio: Provisioned) -> None:
    def accepted() -> list[str]:
        result = []
        for access, secret in keys_of_airflow.items():
            one = Minio(urlsplit(minio.server.endpoint).netloc, access, secret, secure=False, region="us-east-1")
            with suppress(S3Error):
                assert one.get_object("airflow-logs", ".provisioned").read() == b"ok"
                result.append(access)
        return result

    old = minio.keys["airflow"]
    keys_of_airflow = {old[0]: old[1], "airflow-2": "second-secret"}
    new = {"AIRFLOW_ACCESS_KEY": "airflow-2", "AIRFLOW_SECRET_KEY": "second-secret"}
    try:
        minio.provision(**new)
        assert accepted() == [old[0], "airflow-2"]
        output = minio.provision(**new, CLEAN_USERS='["airflow"]')
        assert f"the earlier access key {old[0]} of airflow is deleted" in output
        assert accepted() == ["airflow-2"]
        own = client(minio, "pipeline").get_object("house-data", ".provisioned")
        assert own.read() == b"ok", "keys of other users stay"
    finally:
        minio.provision(CLEAN_USERS='["airflow"]')
    assert accepted() == [old[0]]


def test_provisioning_again_changes_nothing(minio: Provisioned) -> None:
    client(minio, "pipeline").put_object("house-data", "kept", io.BytesIO(b"x"), 1)
    assert minio.provision().splitlines() == [f"bucket {bucket} belongs to {user}" for bucket, user in BUCKETS.items()]
    assert {bucket.name for bucket in client(minio).list_buckets()} == set(BUCKETS)
    assert client(minio).get_object("house-data", "kept").read() == b"x"


def test_only_the_data_bucket_is_versioned(minio: Provisioned) -> None:
    versioning = {bucket: client(minio).get_bucket_versioning(bucket).status for bucket in BUCKETS}
    assert versioning == {"house-data": "Enabled", "mlflow": None, "airflow-logs": None}


def test_old_versions_of_data_and_old_logs_expire_and_data_and_models_never_do(minio: Provisioned) -> None:
    def rules(bucket: str) -> list[tuple[int | None, int | None]]:
        """Days of objects and of old versions, of each rule."""
        lifecycle = client(minio).get_bucket_lifecycle(bucket)
        return [
            (
                rule.expiration.days if rule.expiration else None,
                rule.noncurrent_version_expiration.noncurrent_days if rule.noncurrent_version_expiration else None,
            )
            for rule in (lifecycle.rules if lifecycle else [])
        ]

    for _ in range(2):
        assert {bucket: rules(bucket) for bucket in BUCKETS} == {
            "mlflow": [],
            "house-data": [(None, 30)],
            "airflow-logs": [(90, None)],
        }
        minio.provision()


@pytest.mark.parametrize(("own", "user"), BUCKETS.items())
def test_user_has_access_to_its_own_bucket_only(minio: Provisioned, own: str, user: str) -> None:
    as_user = client(minio, user)
    assert as_user.get_object(own, ".provisioned").read() == b"ok"
    assert [bucket.name for bucket in as_user.list_buckets()] == [own]
    for other in set(BUCKETS) - {own}:
        for act in (
            lambda name=other: as_user.get_object(name, ".provisioned"),
            lambda name=other: as_user.put_object(name, "x", io.BytesIO(b"x"), 1),
            lambda name=other: as_user.remove_object(name, ".provisioned"),
            lambda name=other: list(as_user.list_objects(name)),
        ):
            with pytest.raises(S3Error) as refused:
                act()
            assert refused.value.code == "AccessDenied", f"{user} has access to {other}"
    with pytest.raises(S3Error, match="AccessDenied"):
        as_user.make_bucket("another")


def administration(minio: Provisioned, user: str = "") -> MinioAdmin:
    """MinIO's API for users and policies, with the keys of a user or of root."""
    access, secret = minio.keys[user] if user else (minio.server.access_key, minio.server.secret_key)
    netloc = urlsplit(minio.server.endpoint).netloc
    return MinioAdmin(endpoint=netloc, credentials=StaticProvider(access, secret), secure=False, region="us-east-1")


def refusal(action: Callable[[], object]) -> str:
    """The code of the error with which MinIO refuses an action; "" if it does not."""
    try:
        action()
    except S3Error as refused:
        return refused.code
    except MinioAdminException as refused:
        return "AccessDenied" if "AccessDenied" in str(refused) else str(refused)
    return ""


@pytest.mark.parametrize(("own", "user"), BUCKETS.items())
def test_user_may_read_and_write_small_and_large_objects_and_list_them(minio: Provisioned, own: str, user: str) -> None:
    as_user = client(minio, user)
    for name, size in (("rights/small", 3), ("rights/large", 12_000_000)):  # the large one has several parts
        for content in (b"a" * size, b"b" * size):  # replaced, too
            as_user.put_object(own, name, io.BytesIO(content), size, part_size=5 * 2**20)
            assert as_user.get_object(own, name).read() == content
        assert as_user.stat_object(own, name).size == size
    assert [item.object_name for item in as_user.list_objects(own, "rights/")] == ["rights/large", "rights/small"]
    keys = minio.keys[user]
    foreign = Minio(minio.server.endpoint.removeprefix("http://"), *keys, secure=False)  # asks for the location first
    assert len(list(foreign.list_objects(own, "rights/"))) == 2
    with pytest.raises(S3Error, match="NoSuchKey"):  # and not AccessDenied, which would hide what is missing
        as_user.get_object(own, "rights/none")


@pytest.mark.parametrize(
    ("own", "name", "code"),
    [
        ("mlflow", "1/models/m-1/artifacts/model.txt", ""),
        ("house-data", "probe", ""),
        ("house-data", "prefix/probe", ""),
        ("house-data", "raw/0001-abc.parquet", "AccessDenied"),
        ("house-data", "raw/probe.parquet", "AccessDenied"),
        ("airflow-logs", "dag_id=x/attempt=1.log", "AccessDenied"),
    ],
)
def test_user_deletes_only_what_its_program_deletes(minio: Provisioned, own: str, name: str, code: str) -> None:
    as_user = client(minio, BUCKETS[own])
    version = as_user.put_object(own, name, io.BytesIO(b"x"), 1).version_id
    assert refusal(lambda: as_user.remove_object(own, name, version_id=version)) == code
    if code:
        assert refusal(lambda: as_user.remove_object(own, name)) == code
        assert [str(error.code) for error in as_user.remove_objects(own, [DeleteObject(name)])] == [code]
        assert as_user.get_object(own, name).read() == b"x"


@pytest.mark.parametrize(("own", "user"), BUCKETS.items())
def test_user_may_not_change_its_bucket_nor_other_users(minio: Provisioned, own: str, user: str) -> None:
    as_user, as_admin = client(minio, user), administration(minio, user)
    everything = {"Effect": "Allow", "Action": ["s3:*"], "Resource": [f"arn:aws:s3:::{own}/*"]}
    policy = {"Version": "2012-10-17", "Statement": [everything]}
    forbidden: dict[str, Callable[[], object]] = {
        "delete the bucket": lambda: as_user.remove_bucket(own),
        "create a bucket": lambda: as_user.make_bucket(f"{own}-2"),
        "open the bucket to everybody": lambda: as_user.set_bucket_policy(
            own, json.dumps({**policy, "Statement": [{**everything, "Principal": {"AWS": ["*"]}}]})
        ),
        "read the policy of the bucket": lambda: as_user.get_bucket_policy(own),
        "stop versioning": lambda: as_user.set_bucket_versioning(own, VersioningConfig(SUSPENDED)),
        "change the retention": lambda: as_user.set_bucket_lifecycle(own, LifecycleConfig([])),
        "remove the retention": lambda: as_user.delete_bucket_lifecycle(own),
        "widen its own policy": lambda: as_admin.policy_add(f"bucket-{own}", policy=policy),
        "add a user": lambda: as_admin.user_add("stranger", "stranger-secret"),
        "list users": lambda: as_admin.user_list(),
    }
    assert {what: refusal(action) for what, action in forbidden.items()} == dict.fromkeys(forbidden, "AccessDenied")


def test_upgrade_narrows_the_rights_that_an_earlier_release_gave(minio: Provisioned) -> None:
    wide = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::house-data*"]}
    administration(minio).policy_add("bucket-house-data", policy={"Version": "2012-10-17", "Statement": [wide]})
    as_user = client(minio, "pipeline")
    assert refusal(lambda: as_user.delete_bucket_policy("house-data")) == ""
    minio.provision()
    assert refusal(lambda: as_user.delete_bucket_policy("house-data")) == "AccessDenied"
