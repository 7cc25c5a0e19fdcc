"""Creates the buckets and their users. Idempotent: it keeps what exists. Reads BUCKETS and the keys of each user.

CLEAN_USERS (a JSON list of users) names the users whose earlier access keys are deleted.
"""

import io
import json
import os
import time
from urllib.parse import urlsplit

import urllib3
from minio import Minio, MinioAdmin
from minio.commonconfig import ENABLED, Filter
from minio.credentials import StaticProvider
from minio.lifecycleconfig import Expiration, LifecycleConfig, NoncurrentVersionExpiration, Rule
from minio.versioningconfig import VersioningConfig

endpoint = urlsplit(os.environ["S3_ENDPOINT"])
secure = endpoint.scheme == "https"
root = os.environ["MINIO_ROOT_USER"], os.environ["MINIO_ROOT_PASSWORD"]
patient = urllib3.PoolManager(timeout=urllib3.Timeout(connect=3, read=30), retries=urllib3.Retry(total=1))
client = Minio(endpoint.netloc, *root, secure=secure, region="us-east-1", http_client=patient)
admin = MinioAdmin(
    endpoint=endpoint.netloc, credentials=StaticProvider(*root), secure=secure, region="us-east-1", http_client=patient
)


def policy(bucket: str, deletes: list[str]) -> dict[str, object]:
    """Policy that allows to list one bucket, to read and write its objects, and to delete the objects of `deletes`.

    It allows nothing in other buckets, and no change of the bucket itself: its versioning, retention or policy.
    """
    own = f"arn:aws:s3:::{bucket}"
    statements = [
        (["s3:ListBucket", "s3:GetBucketLocation"], [own]),  # many clients ask for the location first
        # parts of a large object are written with the right to write it; the last right cleans up after a failed write
        (["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], [f"{own}/*"]),
    ]
    if deletes:
        statements.append((["s3:DeleteObject", "s3:DeleteObjectVersion"], [f"{own}/{pattern}" for pattern in deletes]))
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": resources} for actions, resources in statements
        ],
    }


def set_retention(bucket: str, wanted: dict[str, int]) -> None:
    """Set the rules by which MinIO deletes objects and old versions, or remove them."""
    old, age = wanted.get("oldVersionDays"), wanted.get("expireDays")
    everything = Filter(prefix="")
    rules = []
    if old:
        expiry = NoncurrentVersionExpiration(noncurrent_days=old)
        rules.append(Rule(ENABLED, everything, rule_id="old-versions", noncurrent_version_expiration=expiry))
    if age:
        rules.append(Rule(ENABLED, everything, rule_id="objects", expiration=Expiration(days=age)))
    if rules:
        client.set_bucket_lifecycle(bucket, LifecycleConfig(rules))
    else:
        client.delete_bucket_lifecycle(bucket)


for attempt in range(100):  # MinIO may start later than this Job
    try:
        client.list_buckets()
        break
    except Exception as away:  # the last attempt raises it
        if attempt == 99:
            raise
        print(f"waiting for MinIO: {type(away).__name__}", flush=True)
        time.sleep(2)

for bucket, wanted in json.loads(os.environ["BUCKETS"]).items():
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
    if wanted["versioned"]:
        client.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    set_retention(bucket, wanted)
    user = wanted["user"]
    access, secret = (os.environ[f"{user.upper()}_{kind}_KEY"] for kind in ("ACCESS", "SECRET"))
    admin.user_add(access, secret)
    admin.policy_add(f"bucket-{bucket}", policy=policy(bucket, wanted.get("deletes", [])))
    try:
        admin.policy_set(f"bucket-{bucket}", user=access)
    except Exception as refused:  # MinIO reports a policy that is already set as an error
        if "already" not in str(refused):
            raise
    own = Minio(endpoint.netloc, access, secret, secure=secure, region="us-east-1", http_client=patient)
    own.put_object(bucket, ".provisioned", io.BytesIO(b"ok"), 2)
    print(f"bucket {bucket} belongs to {user}", flush=True)

for owner in json.loads(os.environ.get("CLEAN_USERS", "[]")):
    for access in json.loads(admin.user_list()):
        if access.startswith(f"{owner}-") and access != os.environ[f"{owner.upper()}_ACCESS_KEY"]:
            admin.user_remove(access)
            print(f"the earlier access key {access} of {owner} is deleted", flush=True)
