"""The tables in SECURITY.md list every identity, with the rights that the charts and the ledger give it."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from ci.common.kube import PLATFORM
from ci.common.paths import CHECKOUT
from ci.deploy import cluster_rights
from core.ledger.connection import RIGHTS
from tests.kit.rendering import find, objects, workloads

VARIANT = "everything"


@cache
def table(head: str) -> dict[str, list[str]]:
    """The further cells of a table in SECURITY.md, by the first cell, in which quotes are removed."""
    text = (CHECKOUT / "SECURITY.md").read_text()
    [body] = re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, flags=re.M)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines()]
    by_name = {row[0].strip("`"): row[1:] for row in rows}
    assert len(by_name) == len(rows), f"{head}: an identity has two rows"
    return by_name


def quoted(cell: str) -> set[str]:
    """The words between backticks."""
    return set(re.findall(r"`([^`]+)`", cell))


def spelled(rules: list[dict[str, Any]]) -> str:
    """Rules of a Role as the table spells them."""
    return "; ".join(f"`{resource}` {', '.join(rule['verbs'])}" for rule in rules for resource in rule["resources"])


def test_service_accounts_have_exactly_the_rights_of_the_table() -> None:
    items = objects(VARIANT)
    rights: dict[str, list[str]] = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": []
        for item in items
        if item["kind"] == "ServiceAccount"
    }
    for binding in (item for item in items if item["kind"] == "RoleBinding"):
        space = binding["metadata"]["namespace"]
        role = find(items, "Role", binding["roleRef"]["name"], space)
        [subject] = binding["subjects"]
        rights[f"{subject['namespace']}/{subject['name']}"].append(f"in `{space}`: {spelled(role['rules'])}")
    role, binding = cluster_rights.objects(PLATFORM)
    [subject] = binding["subjects"]
    rights[f"{subject['namespace']}/{subject['name']}"].append(f"in the cluster: {spelled(role['rules'])}")
    spelled_rights = {name: "; ".join(sorted(each)) or "none, and no token" for name, each in rights.items()}
    assert {name: cells[1] for name, cells in table("ServiceAccount").items()} == spelled_rights


def test_service_accounts_belong_to_the_pods_of_the_table() -> None:
    used: dict[str, set[str]] = {}
    for workload in workloads(VARIANT):
        account = f"{workload.namespace}/{workload.pod['serviceAccountName']}"
        used.setdefault(account, set()).add(workload.labels["app.kubernetes.io/name"])
    assert {name: quoted(cells[0]) for name, cells in table("ServiceAccount").items()} == used


def test_roles_of_postgresql_are_those_of_the_chart() -> None:
    [server] = [w for w in workloads(VARIANT) if w.item["metadata"]["name"] == "postgres"]
    [settings] = [{entry["name"]: entry.get("value", "") for entry in box["env"]} for box in server.containers]
    owners = dict(pair.split(":") for pair in settings["POSTGRES_DATABASES"].split(","))
    members = {role: group for role, _, group in
               (pair.partition(":") for pair in settings["POSTGRES_ROLES"].split(","))}  # fmt: skip
    rows = table("PostgreSQL role")
    assert set(rows) == {"postgres", *owners.values(), *members, settings["POSTGRES_BACKUP_ROLE"]}
    for database, owner in owners.items():
        assert rows[owner][1] == f"owns the database `{database}`"
    for role, group in members.items():
        assert not group or f"member of `{group}`" in rows[role][1], role


def test_grants_of_the_ledger_are_those_of_the_table() -> None:
    rows = table("PostgreSQL role")
    for role, grants in RIGHTS.items():
        named = {name for right in grants for name in re.findall(r"ledger\.(\w+)", right)}
        schema = {"ledger"} if any("all tables in schema ledger" in right for right in grants) else set()
        assert quoted(rows[role][1]) == named | schema, role


def test_users_of_minio_are_those_of_the_chart() -> None:
    buckets = json.loads(_buckets())
    rows = table("user of MinIO")
    assert set(rows) == {"root", *(bucket["user"] for bucket in buckets.values())}
    for name, bucket in buckets.items():
        _, own, deletes = rows[bucket["user"]]
        assert (own, quoted(deletes)) == (f"`{name}`", set(bucket.get("deletes", []))), name


def _buckets() -> str:
    [job] = [w for w in workloads(VARIANT) if w.labels["app.kubernetes.io/name"] == "minio-provision"]
    [value] = [entry["value"] for box in job.containers for entry in box["env"] if entry["name"] == "BUCKETS"]
    return str(value)
