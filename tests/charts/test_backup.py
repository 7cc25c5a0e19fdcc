"""The CronJob of backups: where its copies go, what it may read, and what a restore makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.deploy import backup
from tests.kit.rendering import Object, find, objects, parse, text

VOLUME, S3 = "vm", "prod"  # environments with each kind of target


def cronjob(backed_up: str) -> Object:
    """The CronJob of an environment."""
    return find(objects(backed_up), "CronJob", "backup")


def pod(backed_up: str) -> dict[str, Any]:
    """Its pod spec."""
    spec: dict[str, Any] = cronjob(backed_up)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def environment(backed_up: str) -> dict[str, Any]:
    """Its variables; None for one that comes from a Secret."""
    return {variable["name"]: variable.get("value") for variable in pod(backed_up)["containers"][0]["env"]}


def egress(backed_up: str) -> list[tuple[str, int]]:
    """Networks outside the cluster that the pod may call."""
    policy = find(objects(backed_up), "NetworkPolicy", "backup")
    return [(peer["ipBlock"]["cidr"], rule["ports"][0]["port"])
            for rule in policy["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer]  # fmt: skip


def test_kind_pays_nothing_for_backups() -> None:
    assert [item for item in objects("kind") if item["metadata"]["name"] == "backup"] == []
    [server] = find(objects("kind"), "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"]
    assert "POSTGRES_BACKUP_ROLE" not in {variable["name"] for variable in server["env"]}


@pytest.mark.parametrize("backed_up", [VOLUME, S3])
def test_server_creates_the_role_and_bounds_the_wal_that_it_keeps(backed_up: str) -> None:
    [server] = find(objects(backed_up), "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"]
    assert {"name": "POSTGRES_BACKUP_ROLE", "value": environment(backed_up)["PGUSER"]} in server["env"]
    assert any(word.startswith("max_slot_wal_keep_size=") for word in server["args"])


def test_volume_is_kept_when_the_platform_is_removed() -> None:
    claim = find(objects(VOLUME), "PersistentVolumeClaim", "backup")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "Prune=false" in claim["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]
    assert environment(VOLUME)["BACKUP_FOLDER"] == "/backup"
    assert egress(VOLUME) == []


def test_object_store_is_the_only_address_outside_the_cluster() -> None:
    values = yaml.safe_load((CHECKOUT / "values" / f"{S3}.yaml").read_text())["global"]["backup"]
    assert egress(S3) == [(values["cidr"], values["port"])]
    assert "BACKUP_FOLDER" not in environment(S3)
    claims = {item["metadata"]["name"] for item in objects(S3) if item["kind"] == "PersistentVolumeClaim"}
    assert "backup" not in claims


@pytest.mark.parametrize("backed_up", [VOLUME, S3])
def test_each_bucket_exists_and_has_the_same_user(backed_up: str) -> None:
    [provision] = [item for item in objects(backed_up) if item["metadata"]["name"].startswith("minio-provision-")]
    [container] = provision["spec"]["template"]["spec"]["containers"]
    [buckets] = [json.loads(one["value"]) for one in container["env"] if one["name"] == "BUCKETS"]
    for pair in environment(backed_up)["BACKUP_BUCKETS"].split(","):
        bucket, user = pair.split(":")
        assert buckets[bucket]["user"] == user


def test_endpoint_without_network_or_bucket_is_refused() -> None:
    settings = "global.backup.enabled=true,postgres.backup.target.s3.endpoint=https://s3.house.example"
    with pytest.raises(Failure) as failure:
        text("kind", "--set", settings)
    assert "postgres.backup.target.s3.bucket is empty" in str(failure.value)
    assert "global.backup.cidr is empty" in str(failure.value)


# restore


@pytest.mark.parametrize("backed_up", [VOLUME, S3])
def test_restore_fills_the_volume_that_the_server_then_finds(backed_up: str) -> None:
    server = find(objects(backed_up), "StatefulSet", "postgres")
    claim = backup.claim(server)
    assert claim["metadata"]["name"] == backup.CLAIM
    assert claim["spec"] == server["spec"]["volumeClaimTemplates"][0]["spec"]
    [container] = server["spec"]["template"]["spec"]["containers"]
    assert backup.DATA in [mount["mountPath"] for mount in container["volumeMounts"]]
    job = backup.job(cronjob(backed_up), ["restore", "latest"], data=True)
    spec = job["spec"]["template"]["spec"]
    assert spec["containers"][0]["args"] == ["restore", "latest"]
    assert spec["securityContext"]["runAsUser"] == server["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["data"] == backup.DATA
    assert {"name": "data", "persistentVolumeClaim": {"claimName": backup.CLAIM}} in spec["volumes"]
    assert "data" not in {volume["name"] for volume in pod(backed_up)["volumes"]}, "the CronJob was changed"


@pytest.mark.parametrize("backed_up", [VOLUME, S3])
def test_no_client_runs_while_a_backup_is_restored(backed_up: str) -> None:
    kinds = {
        (item["kind"], item["metadata"]["name"].partition("provision-")[0])
        for item in backup.needed(objects(backed_up))
    }
    running = {name for kind, name in kinds if kind in ("Deployment", "StatefulSet", "Job", "CronJob")}
    assert running == {"minio", "minio-"}
    accounts = {name for kind, name in kinds if kind == "ServiceAccount"}
    assert accounts == {"minio", "backup"}
    assert ("PersistentVolumeClaim", backup.CLAIM) in kinds


def test_restore_with_values_that_disable_backups_is_refused() -> None:
    with pytest.raises(Failure, match=r"set global\.backup\.enabled"):
        backup.needed(parse(text("kind")))
