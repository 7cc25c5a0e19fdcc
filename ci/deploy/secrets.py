"""Create the platform's namespaces and Secrets, and give Prometheus its right on nodes (ci/deploy/cluster_rights.py).

An existing value of a Secret is never changed or shown.

Charts refer to Secrets and never create them: a random value in a template would change at every rendering. Values
are random and exist only in the cluster. ci/deploy/rotate.py gives them new values.

`--output FOLDER` writes new Secrets to files and does nothing else, for a cluster whose Secrets come from elsewhere
(docs/how-to/secrets-from-elsewhere.md).

The Secret with the receivers of alerts is the exception: its values come from the environment (ci/deploy/receivers.py).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from ci.common.console import Failure, main, run, say
from ci.common.kube import JOBS, PLATFORM, Object, as_list, environment, kube, kubectl
from ci.deploy import cluster_rights, receivers

RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
    "pod-security.kubernetes.io/warn": "restricted",
}

# Keys of later releases that no other Secret shares. They are added to the Secrets of an older platform.
ADDED_LATER = {
    "fastapi": ("ADMIN_KEY", "API_KEYS"),
    "mlflow": ("ADMIN_PASSWORD", "VIEWER_PASSWORD"),
    "postgres": ("BACKUP_PASSWORD",),
}
# Passwords of later releases that a server and one client share: the Secret and key of each.
SHARED_LATER = {
    ("mlflow", "PIPELINE_PASSWORD"): ("pipeline", "MLFLOW_TRACKING_PASSWORD"),
    ("mlflow", "PREDICTOR_PASSWORD"): ("fastapi", "MLFLOW_TRACKING_PASSWORD"),
    ("mlflow", "LOGIN_PASSWORD"): ("oauth2-proxy", "mlflow-password"),
    ("airflow-login", "LOGIN_PASSWORD"): ("oauth2-proxy", "airflow-password"),
}
# Secrets of later releases. SHARED_LATER has the values that others share.
SECRETS_ADDED_LATER = ("oauth2-proxy",)
# Secrets of clients of later releases, with the keys that are added to their server's Secret.
CLIENTS_ADDED_LATER = {"fastapi-batch": ("minio-users", ("BATCH_ACCESS_KEY", "BATCH_SECRET_KEY"))}

ROLES = ("viewer", "operator", "admin")  # of people at the login; each may do what the ones before it may

Name = tuple[str, str]  # namespace and name of a Secret


def _password() -> str:
    return secrets.token_hex(24)


def htpasswd(users: Mapping[str, str]) -> str:
    """A file of users and passwords for oauth2-proxy, which reads SHA-1 and bcrypt.

    The passwords are random, 96 bits, so a slow hash would protect nothing. It would cost time for each request with a
    password, also with a wrong one.
    """
    hashes = {user: hashlib.sha1(password.encode(), usedforsecurity=False) for user, password in users.items()}
    return "".join(f"{user}:{{SHA}}{base64.b64encode(each.digest()).decode()}\n" for user, each in hashes.items())


def generate(namespace: str, jobs: str) -> dict[Name, dict[str, str]]:
    """New values of every Secret: (namespace, name) to keys and values.

    A client's password is in its own Secret and in the Secret of its server.
    """
    database = {role: _password() for role in ("AIRFLOW", "MLFLOW", "LEDGER", "PREDICTOR", "MONITOR", "BACKUP")}
    bucket = {
        user: (f"{user.lower()}-{secrets.token_hex(4)}", _password())
        for user in ("MLFLOW", "PIPELINE", "AIRFLOW", "BATCH")
    }
    registry = {user: _password() for user in ("PIPELINE", "PREDICTOR", "LOGIN")}
    airflow = _password()  # of the login of the platform at Airflow
    people = {role: secrets.token_hex(12) for role in ROLES}
    postgres = f"postgres.{namespace}.svc:5432"
    minio_connection = {
        "conn_type": "aws",
        "login": bucket["AIRFLOW"][0],
        "password": bucket["AIRFLOW"][1],
        "extra": {
            "endpoint_url": f"http://minio.{namespace}.svc:9000",
            "region_name": "us-east-1",
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        },
    }
    return {
        (namespace, "postgres"): {"POSTGRES_PASSWORD": _password()} | {f"{r}_PASSWORD": p for r, p in database.items()},
        (namespace, "minio"): {"MINIO_ROOT_USER": f"root-{secrets.token_hex(4)}", "MINIO_ROOT_PASSWORD": _password()},
        (namespace, "minio-users"): {f"{user}_ACCESS_KEY": pair[0] for user, pair in bucket.items()}
        | {f"{user}_SECRET_KEY": pair[1] for user, pair in bucket.items()},
        (namespace, "mlflow"): {
            "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://mlflow:{database['MLFLOW']}@{postgres}/mlflow",
            "AWS_ACCESS_KEY_ID": bucket["MLFLOW"][0],
            "AWS_SECRET_ACCESS_KEY": bucket["MLFLOW"][1],
            # of MLflow's users: two of the platform, the login of the platform, two for people
            **{f"{user}_PASSWORD": password for user, password in registry.items()},
            "ADMIN_PASSWORD": secrets.token_hex(12),
            "VIEWER_PASSWORD": secrets.token_hex(12),
        },
        (namespace, "airflow"): {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://airflow:{database['AIRFLOW']}@{postgres}/airflow",
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(48),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(24),
            "AIRFLOW_CONN_MINIO": json.dumps(minio_connection),
        },
        (namespace, "airflow-login"): {
            "passwords.json": json.dumps({"admin": secrets.token_hex(12)}),
            "LOGIN_PASSWORD": airflow,
        },
        (namespace, "fastapi"): {
            "LEDGER_DSN": f"postgresql://predictor:{database['PREDICTOR']}@{postgres}/ledger",
            "ADMIN_KEY": _password(),
            "MLFLOW_TRACKING_PASSWORD": registry["PREDICTOR"],
            "API_KEYS": _password(),  # key of the pages; other clients have keys of their own (ci/deploy/api_keys.py)
        },
        (namespace, "fastapi-batch"): {"S3_ACCESS_KEY": bucket["BATCH"][0], "S3_SECRET_KEY": bucket["BATCH"][1]},
        (namespace, "oauth2-proxy"): {
            **{f"{role.upper()}_PASSWORD": password for role, password in people.items()},
            # users who may use the pages of a role: <role>-users
            **{
                f"{role}-users": htpasswd({user: people[user] for user in ROLES[place:]})
                for place, role in enumerate(ROLES[:-1])
            },
            "cookie-secret": secrets.token_hex(16),
            "mlflow-password": registry["LOGIN"],
            "airflow-password": airflow,
        },
        (namespace, "grafana"): {"admin-user": "admin", "admin-password": secrets.token_hex(12)},
        (jobs, "pipeline"): {
            "LEDGER_DSN": f"postgresql://ledger:{database['LEDGER']}@{postgres}/ledger",
            "S3_ACCESS_KEY": bucket["PIPELINE"][0],
            "S3_SECRET_KEY": bucket["PIPELINE"][1],
            "MLFLOW_TRACKING_PASSWORD": registry["PIPELINE"],
        },
    }


def namespace_object(name: str) -> Object:
    """A namespace that admits restricted pods only."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}


def secret_object(namespace: str, name: str, values: Mapping[str, str]) -> Object:
    """A Secret with labels that show its origin."""
    labels = {"app.kubernetes.io/part-of": "house-platform", "app.kubernetes.io/managed-by": "make-secrets"}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(values)}


def write(folder: Path, namespace: str = PLATFORM, jobs: str = JOBS) -> list[Path]:
    """Write a manifest with new values of each Secret, `<namespace>.<name>.json`, which only its owner can read.

    Raises:
        Failure: the folder is not empty, or cannot be written. New and old Secrets together would not fit.
    """
    paths = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if present := sorted(folder.iterdir()):
            raise Failure(f"{folder} is not empty ({present[0].name}): name a new one, because Secrets share passwords")
        for (space, name), values in generate(namespace, jobs).items():
            paths.append(folder / f"{space}.{name}.json")
            with os.fdopen(os.open(paths[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(secret_object(space, name, values), file, indent=2)
    except OSError as wrong:
        raise Failure(f"{folder} cannot be written ({wrong}): name another folder") from wrong
    return paths


def _existing(namespaces: set[str]) -> dict[Name, set[str]]:
    """The keys, not the values, of every Secret in these namespaces."""
    template = (
        "{{range .items}}{{.metadata.namespace}}/{{.metadata.name}}"
        '{{range $key, $_ := .data}} {{$key}}{{end}}{{"\\n"}}{{end}}'
    )
    rows = (row.split() for row in kube("get", "secrets", "-A", "-o", f"go-template={template}").splitlines())
    present = {(head.partition("/")[0], head.partition("/")[2]): set(keys) for head, *keys in rows}
    return {name: keys for name, keys in present.items() if name[0] in namespaces}


def additions(
    existing: Mapping[Name, set[str]], wanted: Mapping[Name, Mapping[str, str]]
) -> dict[Name, dict[str, str]]:
    """Additions to the Secrets of an earlier release: keys and Secrets of their own, shared passwords, new clients.

    The server's Secret comes before a new client's, so that a run that stops between the two is detected. A shared
    password that one of the two Secrets lacks is new in both.
    """
    older = any(name in wanted for name in existing)
    new = [name for name in wanted if older and name[1] in SECRETS_ADDED_LATER and name not in existing]
    existing = {**existing, **{name: set() for name in new}}
    added = {
        name: {key: wanted[name][key] for key in ADDED_LATER.get(name[1], ()) if key not in keys}
        for name, keys in existing.items()
        if name in wanted
    }
    added |= {name: dict(wanted[name]) for name in new}
    of_secret = {name[1]: name for name in existing if name in wanted}
    for (server, server_key), (client, client_key) in SHARED_LATER.items():
        pair = [
            (of_secret[name], key) for name, key in ((server, server_key), (client, client_key)) if name in of_secret
        ]
        if len(pair) == 2 and any(key not in existing[name] for name, key in pair):
            for name, key in pair:
                added.setdefault(name, {})[key] = wanted[name][key]
    for client, (server, keys) in CLIENTS_ADDED_LATER.items():
        for space, _ in (name for name in existing if name[1] == server and name in wanted):
            if (space, client) not in existing and not existing[space, server] & set(keys):
                added[space, server] = {key: wanted[space, server][key] for key in keys}
                added[space, client] = dict(wanted[space, client])
    return {name: values for name, values in added.items() if values}


def create(namespace: str = PLATFORM, jobs: str = JOBS) -> list[str]:
    """Create missing Secrets; return the names of created Secrets, and of those that got missing keys.

    Also creates the namespaces, and grants Prometheus its right on nodes.

    Raises:
        Failure: only some Secrets exist. They share passwords, so the others cannot be created alone. Or a setting of
            the receivers of alerts is wrong; then nothing is created.
    """
    outside = receivers.values()
    namespaces = as_list([namespace_object(namespace), namespace_object(jobs)])
    kube("apply", "--server-side", "--field-manager=make-secrets", "-f", "-", stdin=namespaces)
    cluster_rights.grant(namespace)
    present = _existing({namespace, jobs})
    return [*_create_random(namespace, jobs, present), *_create_receivers(namespace, outside, present)]


def _create_receivers(namespace: str, outside: Mapping[str, str], present: Mapping[Name, set[str]]) -> list[str]:
    """Create the Secret with the receivers of alerts, or add missing keys to it. An existing key is not changed."""
    name = (namespace, receivers.SECRET)
    missing = {key: value for key, value in outside.items() if key not in present.get(name, set())}
    if kept := sorted(set(outside) - set(missing)):
        say(
            f"{namespace}/{receivers.SECRET} keeps its {', '.join(kept)}: to use the values of the environment, "
            f"`kubectl -n {namespace} delete secret {receivers.SECRET}` and run `make secrets` again"
        )
    if not missing:
        return []
    add(name, missing, name in present)
    return [f"{namespace}/{receivers.SECRET} ({', '.join(missing)})"]


def _create_random(namespace: str, jobs: str, present: Mapping[Name, set[str]]) -> list[str]:
    wanted = generate(namespace, jobs)
    existing = {name: keys for name, keys in present.items() if name in wanted}
    added = additions(existing, wanted)
    missing = sorted(set(wanted) - set(existing) - set(added))
    if existing and not missing:
        for name, values in added.items():
            add(name, values, name in existing)
        return [f"{space}/{name} ({', '.join(values)})" for (space, name), values in added.items()]
    if existing:
        gone = ", ".join(f"{space}/{name}" for space, name in missing)
        raise Failure(
            f"these Secrets are missing while others exist: {gone}. They share passwords with the ones that exist. "
            "Restore them from your backup, or delete the platform's Secrets and data and run `make secrets` again."
        )
    _make([secret_object(space, name, wanted[space, name]) for space, name in missing])
    return [f"{space}/{name}" for space, name in missing]


def add(name: Name, values: Mapping[str, str], exists: bool) -> None:
    """Add keys to a Secret that exists, or create it with them."""
    space, secret = name
    if exists:
        patch = ["patch", "secret", secret, "--type=merge", "--patch-file=/dev/stdin"]
        kube("-n", space, *patch, stdin=json.dumps({"stringData": dict(values)}))
    else:
        _make([secret_object(space, secret, values)])


def _make(objects: list[Object]) -> None:
    run([kubectl(), "create", "-f", "-"], stdin=as_list(objects), env=environment())


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ci.deploy.secrets", description=__doc__)
    parser.add_argument("--namespace", default=PLATFORM, help="namespace of the platform (default: %(default)s)")
    parser.add_argument(
        "--jobs-namespace", default=JOBS, help="namespace of the pipeline's pods (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="only write new Secrets to this new folder; needs no cluster"
    )
    options = parser.parse_args()
    if options.output:
        files = write(options.output, options.namespace, options.jobs_namespace)
        say(f"wrote {len(files)} Secrets to {options.output}: delete the folder when the values are in their store")
        return
    made = create(options.namespace, options.jobs_namespace)
    say(
        f"created or completed {len(made)} Secrets: {', '.join(made)}"
        if made
        else "all Secrets exist; nothing was changed"
    )


if __name__ == "__main__":
    main(_main)
