"""Checks that Secrets exist, with their keys. Values are not used."""

from __future__ import annotations

from collections.abc import Mapping

from ci.common.kube import JOBS, PLATFORM, Get
from ci.deploy import secrets
from ci.doctor.requirements import Requirements
from ci.doctor.result import Result, fail, ok, warn


def existing(needs: Requirements, get: Get, before: bool = False) -> list[Result]:
    """Check that every Secret that the platform's objects refer to exists, with its keys. Values are not used.

    Keys that `make secrets` adds to an older platform are only a warning before an install, which runs it.
    """
    present = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": set(item.get("data") or {})
        for item in get("secrets", "-A")["items"]
    }
    results = []
    added = _added(present)
    missing = sorted(set(needs.secrets) - set(present) - {key.rpartition("/")[0] for key in added})
    keys = sorted(set(needs.secret_keys) - {f"{name}/{key}" for name, own in present.items() for key in own})
    if not missing and keys:
        level = warn if before and set(keys) <= added else fail
        results.append(
            level("secrets", f"{', '.join(keys)} missing: pods of this release do not start without them",
                  "make secrets (`make install` and ./install.sh do it)")
        )  # fmt: skip
    elif not missing:
        results.append(ok("secrets", f"all {len(needs.secrets)} exist"))
    elif len(missing) == len(needs.secrets):
        results.append(warn("secrets", "none exists yet", "make secrets (`make install` and ./install.sh do it)"))
    else:
        results.append(
            fail(
                "secrets",
                f"{', '.join(missing)} missing while others exist: "
                "they share passwords, so a single one cannot be created",
                "restore them from your backup; without one, delete the platform's Secrets and data, then make secrets",
            )
        )
    if foreign := sorted(set(needs.foreign_secrets) - set(present)):
        space, _, name = foreign[0].partition("/")
        results.append(
            fail(
                "certificates",
                f"Ingresses name {', '.join(foreign)}, which `make secrets` does not create: "
                "pages would have a wrong certificate",
                f"kubectl -n {space} create secret tls {name} --cert=<file> --key=<file>",
            )
        )
    elif needs.foreign_secrets:
        results.append(ok("certificates", ", ".join(needs.foreign_secrets)))
    return results


def _added(present: Mapping[str, set[str]]) -> set[str]:
    """The keys that `make secrets` would add to the present Secrets, `namespace/name/key`."""
    made = secrets.generate(PLATFORM, JOBS)
    have = {(name.partition("/")[0], name.partition("/")[2]): keys for name, keys in present.items()}
    return {f"{space}/{name}/{key}" for (space, name), keys in secrets.additions(have, made).items() for key in keys}


def receivers(needs: Requirements, get: Get) -> Result:
    """Check that alerts reach somebody, and that the Secret has the keys of the receivers. Values are not used."""
    check, page = "receivers", "docs/how-to/receive-alerts.md"
    present = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}/{key}"
        for item in (get("secrets", "-A")["items"] if needs.receiver_keys else [])
        for key in item.get("data") or {}
    }
    if missing := sorted(set(needs.receiver_keys) - present):
        return fail(check, f"{', '.join(missing)} missing: Alertmanager does not start",
                    f"set the variable of each key and run make secrets, or turn the receiver off: {page}")  # fmt: skip
    if not needs.notifies:
        return warn(check, f"no receiver is enabled in {needs.env}: alerts only show on Alertmanager's page", page)
    return ok(check, "enabled")
