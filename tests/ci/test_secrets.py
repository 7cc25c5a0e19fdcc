"""The Secrets that `make secrets` makes fit together."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from ci.deploy.secrets import ADDED_LATER, additions, generate, namespace_object

MADE = generate("mlops", "mlops-jobs")


def password(url: str) -> str | None:
    return urlsplit(url).password


def test_each_client_has_the_password_that_its_server_knows() -> None:
    postgres, users = MADE["mlops", "postgres"], MADE["mlops", "minio-users"]
    assert password(MADE["mlops", "airflow"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]) == postgres["AIRFLOW_PASSWORD"]
    assert password(MADE["mlops", "mlflow"]["MLFLOW_BACKEND_STORE_URI"]) == postgres["MLFLOW_PASSWORD"]
    assert password(MADE["mlops", "fastapi"]["LEDGER_DSN"]) == postgres["PREDICTOR_PASSWORD"]
    assert password(MADE["mlops-jobs", "pipeline"]["LEDGER_DSN"]) == postgres["LEDGER_PASSWORD"]
    assert MADE["mlops", "mlflow"]["AWS_SECRET_ACCESS_KEY"] == users["MLFLOW_SECRET_KEY"]
    assert MADE["mlops-jobs", "pipeline"]["S3_SECRET_KEY"] == users["PIPELINE_SECRET_KEY"]
    assert json.loads(MADE["mlops", "airflow"]["AIRFLOW_CONN_MINIO"])["password"] == users["AIRFLOW_SECRET_KEY"]
    assert MADE["mlops", "fastapi-batch"]["S3_SECRET_KEY"] == users["BATCH_SECRET_KEY"]


def test_no_two_clients_share_a_password() -> None:
    values = list(MADE["mlops", "postgres"].values()) + [
        value for key, value in MADE["mlops", "minio-users"].items() if key.endswith("SECRET_KEY")
    ]
    assert len(set(values)) == len(values)


def test_values_differ_each_time() -> None:
    again = generate("mlops", "mlops-jobs")
    for key, values in MADE.items():
        for name, value in values.items():
            if name != "admin-user":
                assert again[key][name] != value, f"{key} {name} is always the same"


def test_namespaces_enforce_the_restricted_profile() -> None:
    labels = namespace_object("mlops")["metadata"]["labels"]  # type: ignore[index]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_older_platform_gets_the_keys_that_stand_alone_and_no_other() -> None:
    """The database's password is its server's, too: a new one would lock the service out."""
    whole = {name: set(values) for name, values in MADE.items()}
    assert additions(whole, MADE) == {}
    before_backups = whole | {("mlops", "postgres"): whole["mlops", "postgres"] - {"BACKUP_PASSWORD"}}
    password = MADE["mlops", "postgres"]["BACKUP_PASSWORD"]
    assert additions(before_backups, MADE) == {("mlops", "postgres"): {"BACKUP_PASSWORD": password}}
    older = whole | {("mlops", "fastapi"): {"API_KEYS"}}
    assert additions(older, MADE) == {("mlops", "fastapi"): {"ADMIN_KEY": MADE["mlops", "fastapi"]["ADMIN_KEY"]}}
    assert additions({("elsewhere", "fastapi"): set()}, MADE) == {}


def test_older_platform_gets_a_client_of_a_later_release_together_with_what_its_server_knows_of_it() -> None:
    server, client = ("mlops", "minio-users"), ("mlops", "fastapi-batch")
    keys = {"BATCH_ACCESS_KEY", "BATCH_SECRET_KEY"}
    whole = {name: set(values) for name, values in MADE.items()}
    older = {name: values - keys for name, values in whole.items() if name != client}
    added = additions(older, MADE)
    assert added == {server: {key: MADE[server][key] for key in keys}, client: MADE[client]}
    assert list(added) == [server, client]
    half = {name: values for name, values in whole.items() if name != client}
    assert additions(half, MADE) == {}, "the server knows of another pair, which nobody can read"


def test_keys_added_later_are_shared_with_no_other_secret() -> None:
    values = [value for secret in MADE.values() for value in secret.values()]
    for name, keys in ADDED_LATER.items():
        for key in keys:
            mine = MADE["mlops", name][key]
            assert [value for value in values if mine in value] == [mine], key
