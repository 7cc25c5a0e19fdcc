"""Make a backup of the databases and buckets, or restore one into an empty cluster.

python -m ci.deploy.backup full                               a full backup now
python -m ci.deploy.backup list                               names of the full backups at the target
python -m ci.deploy.backup restore --from latest              the newest backup, with everything until its last round
python -m ci.deploy.backup restore --from latest --time 2026-11-29T12:00:00Z

Each runs services/postgres/backup.sh in a pod like that of the CronJob. A restore installs the object store, fills the
buckets and the volume of the databases, and only then installs the platform: no client sees a half-restored state.
"""

from __future__ import annotations

import argparse
import json

from ci.common.console import Failure, main, phase, say
from ci.common.environments import known_env
from ci.common.kube import PLATFORM, Object, as_list, get, kube
from ci.deploy import drift, helm_release, platform, secrets, workloads
from ci.deploy.one_job import run

CRONJOB = "backup"
CLAIM = "data-postgres-0"
DATA = "/var/lib/postgresql/data"
COMPONENTS = ("minio", "minio-provision", "backup")  # they must run before the platform when a backup is restored
DISABLED = "backups are disabled: set global.backup.enabled, and see docs/how-to/back-up-and-restore.md"


def job(cronjob: Object, words: list[str], data: bool = False) -> Object:
    """A Job like those of the CronJob with these arguments; with `data` also with the volume of the databases."""
    template: Object = json.loads(json.dumps(cronjob["spec"]["jobTemplate"]))
    metadata = {**template["metadata"], "name": f"backup-{words[0]}", "namespace": PLATFORM}
    pod = template["spec"]["template"]["spec"]
    [container] = pod["containers"]
    container["args"] = words
    if data:
        container["env"].append({"name": "PGDATA", "value": f"{DATA}/pgdata"})
        container["volumeMounts"].append({"name": "data", "mountPath": DATA})
        pod["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}})
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}


def claim(statefulset: Object) -> Object:
    """The claim that the first pod of a StatefulSet would create, so that its volume can be filled before."""
    [wanted] = statefulset["spec"]["volumeClaimTemplates"]
    name = f"{wanted['metadata']['name']}-{statefulset['metadata']['name']}-0"
    labels = statefulset["spec"]["selector"]["matchLabels"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": PLATFORM, "labels": labels},
        "spec": wanted["spec"],
    }


def needed(manifest: list[Object]) -> list[Object]:
    """The objects that must exist before the restore: the object store, and what the pod of a backup needs.

    Raises:
        Failure: the values disable backups.
    """
    if not any(item["kind"] == "CronJob" and item["metadata"]["name"] == CRONJOB for item in manifest):
        raise Failure(DISABLED)
    named = [item for item in manifest
             if item["metadata"].get("labels", {}).get("app.kubernetes.io/name") in COMPONENTS]  # fmt: skip
    [server] = [item for item in manifest if item["kind"] == "StatefulSet" and item["metadata"]["name"] == "postgres"]
    return [item for item in named if item["kind"] != "CronJob"] + [claim(server)]


def installed() -> Object:
    """The CronJob on the cluster.

    Raises:
        Failure: there is none.
    """
    if not kube("-n", PLATFORM, "get", "cronjob", CRONJOB, "-o", "name", "--ignore-not-found", check=False):
        raise Failure(DISABLED)
    return get("-n", PLATFORM, "cronjob", CRONJOB)


def restore(source: str, moment: str, env: str, extra: list[str]) -> None:
    """Restore a backup and install the platform on it. An interrupted restore continues when it is called again.

    Raises:
        Failure: a platform is installed, backups are disabled, or the backup cannot be restored.
    """
    if platform.delivered_by_argocd() or helm_release.release():
        raise Failure(
            "a platform is installed: a restore needs an empty one. `make remove` deletes it with all its data; "
            "docs/how-to/back-up-and-restore.md says how to keep the other volumes"
        )
    manifest = drift.read(helm_release.rendered(env, extra))
    objects = needed(manifest)
    [cronjob] = [item for item in manifest if item["kind"] == "CronJob" and item["metadata"]["name"] == CRONJOB]
    with phase("install the object store", then="restore buckets and databases"):
        made = secrets.create()
        say(f"created or completed {len(made)} Secrets")
        _require_key(cronjob)
        words = ["apply", "--server-side", "--force-conflicts", "--field-manager=make-restore"]
        kube(*words, "-f", "-", stdin=as_list(objects))
    with phase("restore buckets and databases", then="install the platform"):
        run(job(cronjob, ["restore", source, *([moment] if moment else [])], data=True))
    with phase("install charts/platform", then="wait for every component"):
        platform.install(env, extra, take_ownership=True)
    with phase("wait for every component"):
        workloads.wait_ready()


def _require_key(cronjob: Object) -> None:
    """Raise Failure if the Secret with the keys of the target is missing: only the operator can create it."""
    for variable in cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]:
        key = variable.get("valueFrom", {}).get("secretKeyRef", {})
        present = key and kube("-n", PLATFORM, "get", "secret", key["name"], "-o", "name", "--ignore-not-found")
        if key and not present:
            raise Failure(
                f"the Secret {key['name']} is missing in {PLATFORM}. Create it: kubectl -n {PLATFORM} create secret "
                f"generic {key['name']} --from-literal=ACCESS_KEY=... --from-literal=SECRET_KEY=..."
            )


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.deploy.backup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["full", "list", "restore"])
    parser.add_argument(
        "--from", dest="source", default="", metavar="NAME", help="`latest`, or a name that `list` prints"
    )
    parser.add_argument(
        "--time", default="", help="restore the databases up to this time. Example: 2026-11-29T12:00:00Z"
    )
    parser.add_argument("--env", type=known_env, default="kind", help="environment to restore (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a value, like helm --set"
    )
    options = parser.parse_args()
    if options.action == "restore":
        if not options.source:
            raise Failure("name a backup: `make restore FROM=latest`, or FROM=<a name that `make backups` prints>")
        restore(options.source, options.time, options.env, options.set)
    else:
        run(job(installed(), [options.action]))


if __name__ == "__main__":
    main(_main)
