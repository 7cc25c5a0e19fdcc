"""Give the platform new passwords and keys, one Secret at a time, while it runs.

python -m ci.deploy.rotate mlflow
python -m ci.deploy.rotate --list

Servers and clients get the new values in an order in which clients are refused for seconds at most: a bucket's new user
exists beside the old one until its client has changed, and keys that the platform checks itself are accepted old and
new. A password of PostgreSQL is one value, so until a client's pods have restarted, its new connections are refused;
prices need no database. The same is true of a password of MLflow. If a rotation is interrupted, run it again: it starts
over with new values.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ci.common.console import Failure, main, phase, say, wait_for
from ci.common.kube import JOBS, PLATFORM, Object, get, kube, secret
from ci.deploy import one_job, runs, workloads
from ci.deploy.secrets import Name, add, generate

PROVISION = "minio-provision"  # name of the Jobs of charts/minio
SOCKET = "/tmp"  # noqa: S108  # folder of PostgreSQL's socket in its pod
ALTER = """select format('alter role %I password %L', rolname, '{password}')
  from pg_roles where rolname = '{role}' \\gexec
"""
OF_JOB = re.compile("job-name|controller-uid")  # labels that Kubernetes adds to the pods of one Job
RUN_SECONDS = 3600  # of a pipeline run, at most
FERNET = "AIRFLOW__CORE__FERNET_KEY"
AIRFLOW = ("deployment/airflow-api", "deployment/airflow-scheduler", "deployment/airflow-dag-processor")


@dataclass(frozen=True)
class Rotation:
    """The servers and workloads that share the values of one Secret.

    `roles` and `bucket_users` are those of the client that the Secret belongs to, and `logins` are its other passwords,
    by Secret of the server: their values are in the Secrets of their servers, too. `restarts` are the workloads that
    read the Secret, in the order in which they restart. `both` are keys whose old value stays valid until all of them
    have the new one. `idle`: no pipeline run may be interrupted.
    """

    restarts: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    bucket_users: tuple[str, ...] = ()
    logins: Mapping[str, str] = field(default_factory=dict)
    both: tuple[str, ...] = ()
    idle: bool = False
    namespace: str = PLATFORM


ROTATIONS: Mapping[str, Rotation] = {
    "airflow": Rotation(AIRFLOW, ("AIRFLOW",), ("AIRFLOW",), both=(FERNET,), idle=True),
    "airflow-login": Rotation(("deployment/airflow-api",)),
    "fastapi": Rotation(
        ("deployment/fastapi", "deployment/streamlit"),
        ("PREDICTOR",),
        logins={"mlflow": "PREDICTOR_PASSWORD"},
        both=("API_KEYS",),
    ),
    "fastapi-batch": Rotation(bucket_users=("BATCH",)),
    "grafana": Rotation(("deployment/grafana",)),
    "minio": Rotation(("statefulset/minio",)),
    "mlflow": Rotation(("deployment/mlflow",), ("MLFLOW",), ("MLFLOW",)),
    "oauth2-proxy": Rotation(
        ("deployment/oauth2-proxy",), logins={"airflow-login": "LOGIN_PASSWORD", "mlflow": "LOGIN_PASSWORD"}
    ),
    "pipeline": Rotation(
        (), ("LEDGER",), ("PIPELINE",), logins={"mlflow": "PIPELINE_PASSWORD"}, idle=True, namespace=JOBS
    ),
    "postgres": Rotation(("deployment/postgres-exporter",), ("POSTGRES", "MONITOR", "BACKUP")),
}
# The values of these Secrets belong to clients and change with them.
OF_CLIENTS = {"minio-users": "airflow, fastapi-batch, mlflow and pipeline"}


def changes(name: str) -> dict[Name, dict[str, str]]:
    """New values for a rotation: every Secret and key that changes, the servers' Secrets first.

    Raises:
        Failure: no rotation has this name.
    """
    rotation = _rotation(name)
    fresh = generate(PLATFORM, JOBS)
    servers: dict[Name, dict[str, str]] = {}
    if rotation.roles:
        keys = [f"{role}_PASSWORD" for role in rotation.roles]
        servers[PLATFORM, "postgres"] = {key: fresh[PLATFORM, "postgres"][key] for key in keys}
    if rotation.bucket_users:
        keys = [f"{user}_{kind}_KEY" for user in rotation.bucket_users for kind in ("ACCESS", "SECRET")]
        servers[PLATFORM, "minio-users"] = {key: fresh[PLATFORM, "minio-users"][key] for key in keys}
    for server, key in rotation.logins.items():
        servers[PLATFORM, server] = {key: fresh[PLATFORM, server][key]}
    own = (rotation.namespace, name)
    if own in servers:
        return servers
    kept = {key for each in ROTATIONS.values() for server, key in each.logins.items() if own == (PLATFORM, server)}
    return {**servers, own: {key: value for key, value in fresh[own].items() if key not in kept}}


def _rotation(name: str) -> Rotation:
    if name in OF_CLIENTS:
        raise Failure(f"the values of {name} belong to its clients: rotate {OF_CLIENTS[name]} instead")
    if name not in ROTATIONS:
        raise Failure(f"no Secret of the platform is called `{name}`. Choose one of: {', '.join(ROTATIONS)}")
    return ROTATIONS[name]


def rotate(name: str) -> None:
    """Give a Secret new values, and everything that uses them.

    Raises:
        Failure: no rotation has this name, a Secret is missing, a pipeline run does not end, or a step failed. Then
            the rotation has to be repeated.
    """
    rotation, new = _rotation(name), changes(name)
    own = (rotation.namespace, name)
    old = {each: secret(*each) for each in new}  # missing ones fail before anything changes
    overlap = {key: f"{new[own][key]},{old[own][key]}" for key in rotation.both}
    if rotation.idle:
        _wait_until_idle()
    if rotation.bucket_users:
        with phase("create the new users of buckets", "the database"):
            add((PLATFORM, "minio-users"), new[PLATFORM, "minio-users"], exists=True)
            _provision()
    if rotation.roles:
        with phase("change the passwords in PostgreSQL", "the Secret of the client"):
            add((PLATFORM, "postgres"), new[PLATFORM, "postgres"], exists=True)
            _alter({role.lower(): new[PLATFORM, "postgres"][f"{role}_PASSWORD"] for role in rotation.roles})
    for server in rotation.logins:
        with phase(f"change the password in {server}", "the Secret of the client"):
            add((PLATFORM, server), new[PLATFORM, server], exists=True)
            _restart(ROTATIONS[server].restarts)
    add(own, new[own] | overlap, exists=True)
    _restart(rotation.restarts)
    if rotation.both:
        if FERNET in rotation.both:
            with phase("encrypt Airflow's stored connections with the new key"):
                kube("-n", PLATFORM, "exec", AIRFLOW[0], "--", "airflow", "rotate-fernet-key", timeout=300)
        with phase("remove the old key"):
            add(own, {key: _without_old(key, new[own][key], old[own][key]) for key in rotation.both}, exists=True)
        _restart(rotation.restarts)
    if rotation.bucket_users:
        with phase("delete the old users of buckets"):
            _provision(clean=[user.lower() for user in rotation.bucket_users])


def _without_old(key: str, new: str, old: str) -> str:
    """The value after everything uses `new`. API_KEYS may have keys of other clients after that of the pages."""
    return new if key == FERNET else ",".join([new, *old.split(",")[1:]])


def _wait_until_idle() -> None:
    """Wait until no pipeline run is active: its pods have the old values."""
    with runs.airflow() as client, phase("wait for the end of the pipeline run"):
        wait_for("the end of the pipeline run", lambda: not client.active(), RUN_SECONDS, every=5)


def _restart(names: Iterable[str]) -> None:
    """Restart workloads one after another; leaves out those that are not installed."""
    late = workloads.late_workloads()
    for name in names:
        if not kube("-n", PLATFORM, "get", name, "--ignore-not-found", "-o", "name"):
            continue
        with phase(f"restart {name}"):
            kube("-n", PLATFORM, "rollout", "restart", name)
            if name in late:
                say(f"{name} was not Ready before, so nothing waits for it (`make status` has the reason)")
            else:
                kube("-n", PLATFORM, "rollout", "status", name, "--timeout=600s", timeout=620)


def _alter(passwords: Mapping[str, str]) -> None:
    """Set passwords of roles, on standard input and never as arguments. The role `backup` exists only with backups."""
    statements = "".join(ALTER.format(role=role, password=password) for role, password in passwords.items())
    psql = ["psql", "-h", SOCKET, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-q"]
    kube("-n", PLATFORM, "exec", "-i", "statefulset/postgres", "-c", "postgres", "--", *psql, stdin=statements)


def _provision(clean: Iterable[str] = ()) -> None:
    """Run a Job like the one that creates the buckets and their users.

    `clean` are the owners of buckets whose earlier users are deleted.

    Raises:
        Failure: MinIO is not installed, or the Job failed.
    """
    jobs = [job for job in get("-n", PLATFORM, "jobs")["items"] if job["metadata"]["name"].startswith(PROVISION)]
    if not jobs:
        raise Failure(f"no Job of MinIO is called {PROVISION}-...: install the platform (`make install`)")
    one_job.run(provision(jobs[0], clean))


def provision(job: Object, clean: Iterable[str]) -> Object:
    """A Job like that of charts/minio, under another name. It deletes earlier users of the owners in `clean`."""
    template: Object = json.loads(json.dumps(job["spec"]["template"]))
    labels = template["metadata"]["labels"]
    template["metadata"]["labels"] = {key: value for key, value in labels.items() if not OF_JOB.search(key)}
    [container] = template["spec"]["containers"]
    container["env"].append({"name": "CLEAN_USERS", "value": json.dumps(list(clean))})
    metadata = {"name": "rotate-minio-users", "namespace": PLATFORM}
    spec = {"backoffLimit": job["spec"]["backoffLimit"], "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.deploy.rotate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help=f"Secret to rotate: {', '.join(ROTATIONS)}")
    parser.add_argument("--list", action="store_true", help="print the names of the Secrets")
    options = parser.parse_args()
    if options.list:
        for name in ROTATIONS:
            print(name)
        return
    if not options.name:
        raise Failure(f"name the Secret to rotate, for example NAME=mlflow. Choose one of: {', '.join(ROTATIONS)}")
    rotate(options.name)
    say(f"the Secret {options.name} has new values, and everything that uses it has restarted")


if __name__ == "__main__":
    main(_main)
