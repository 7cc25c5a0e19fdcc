"""The Secrets that `make secrets` makes fit together."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha1
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ci.common.console import Failure
from ci.deploy import cluster_rights, receivers, secrets
from ci.deploy.secrets import ADDED_LATER, SHARED_LATER, additions, generate, namespace_object

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
    registry = MADE["mlops", "mlflow"]
    assert MADE["mlops", "fastapi"]["MLFLOW_TRACKING_PASSWORD"] == registry["PREDICTOR_PASSWORD"]
    assert MADE["mlops-jobs", "pipeline"]["MLFLOW_TRACKING_PASSWORD"] == registry["PIPELINE_PASSWORD"]


def test_no_two_clients_share_a_password() -> None:
    values = list(MADE["mlops", "postgres"].values()) + [
        value for key, value in MADE["mlops", "minio-users"].items() if key.endswith("SECRET_KEY")
    ]
    assert len(set(values)) == len(values)


def test_files_of_users_have_the_hashes_of_the_passwords() -> None:
    login = MADE["mlops", "oauth2-proxy"]
    hashed = {
        role: b64encode(sha1(login[f"{role.upper()}_PASSWORD"].encode()).digest()).decode()  # noqa: S324 - the format
        for role in ("viewer", "operator", "admin")
    }
    lines = {role: f"{role}:{{SHA}}{text}" for role, text in hashed.items()}
    assert login["viewer-users"].splitlines() == [lines["viewer"], lines["operator"], lines["admin"]]
    assert login["operator-users"].splitlines() == [lines["operator"], lines["admin"]]


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
    older = whole | {("mlops", "fastapi"): whole["mlops", "fastapi"] - {"ADMIN_KEY", "LEDGER_DSN"}}
    assert additions(older, MADE) == {("mlops", "fastapi"): {"ADMIN_KEY": MADE["mlops", "fastapi"]["ADMIN_KEY"]}}
    login = ("mlops", "oauth2-proxy")
    before_login = {name: keys - {"LOGIN_PASSWORD"} for name, keys in whole.items() if name != login}
    registry = {("mlops", "mlflow"): {"LOGIN_PASSWORD": MADE[login]["mlflow-password"]}}
    airflow = {("mlops", "airflow-login"): {"LOGIN_PASSWORD": MADE[login]["airflow-password"]}}
    assert additions(before_login, MADE) == {login: MADE[login], **registry, **airflow}
    half = whole | {("mlops", "mlflow"): whole["mlops", "mlflow"] - {"LOGIN_PASSWORD"}}
    assert additions(half, MADE) == {login: {"mlflow-password": MADE[login]["mlflow-password"]}, **registry}
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


@pytest.mark.parametrize("missing", [(0,), (1,), (0, 1)], ids=["the server's", "the client's", "both"])
@pytest.mark.parametrize("pair", SHARED_LATER.items(), ids=str)
def test_older_platform_gets_a_shared_password_in_both_secrets(
    pair: tuple[tuple[str, str], tuple[str, str]], missing: tuple[int, ...]
) -> None:
    """Also when an earlier run stopped between the two."""
    places = [(next(name for name in MADE if name[1] == secret), key) for secret, key in pair]
    older = {name: set(values) for name, values in MADE.items()}
    for index in missing:
        name, key = places[index]
        older[name] -= {key}
    added = additions(older, MADE)
    assert added == {name: {key: MADE[name][key]} for name, key in places}
    assert len({value for values in added.values() for value in values.values()}) == 1


def test_keys_added_later_are_shared_with_no_other_secret() -> None:
    values = [value for secret in MADE.values() for value in secret.values()]
    for name, keys in ADDED_LATER.items():
        for key in keys:
            mine = MADE["mlops", name][key]
            assert [value for value in values if mine in value] == [mine], key


NAME = ("mlops", receivers.SECRET)


class Cluster:
    """A cluster that has every random Secret, and that keeps what is written to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, receivers_keys: set[str] | None) -> None:
        self.keys = {name: set(values) for name, values in MADE.items()}
        self.keys |= {NAME: receivers_keys} if receivers_keys is not None else {}
        self.created: dict[str, dict[str, str]] = {}
        self.patched: dict[str, dict[str, str]] = {}
        monkeypatch.setattr(secrets, "_existing", lambda _: self.keys)
        monkeypatch.setattr(secrets, "kube", self.kube)
        monkeypatch.setattr(cluster_rights, "kube", self.kube)
        monkeypatch.setattr(secrets, "_make", self.make)
        for name in (*receivers.KEYS, receivers.CERTIFICATES, receivers.FILE):
            monkeypatch.delenv(name, raising=False)

    def kube(self, *words: str, stdin: str) -> str:
        if "patch" in words:
            self.patched[words[words.index("secret") + 1]] = json.loads(stdin)["stringData"]
        return ""

    def make(self, objects: list[dict[str, dict[str, str]]]) -> None:
        self.created |= {item["metadata"]["name"]: item["stringData"] for item in objects}


def test_no_receivers_in_the_environment_create_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, None)
    assert secrets.create() == []
    assert (cluster.created, cluster.patched) == ({}, {})


def test_receivers_of_the_environment_become_a_secret_beside_the_existing_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster(monkeypatch, None)
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "https://alerts.house.example/hook")
    assert secrets.create() == ["mlops/alertmanager-receivers (webhook-url)"]
    assert cluster.created == {receivers.SECRET: {"webhook-url": "https://alerts.house.example/hook"}}
    assert cluster.patched == {}
    assert "house.example" not in capsys.readouterr().out


def test_key_of_a_receiver_that_exists_is_kept_and_a_missing_one_is_added(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster(monkeypatch, {"webhook-url"})
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "https://other.house.example")
    monkeypatch.setenv("ALERT_SMTP_PASSWORD", "correct horse")
    assert secrets.create() == ["mlops/alertmanager-receivers (smtp-password)"]
    assert cluster.patched == {receivers.SECRET: {"smtp-password": "correct horse"}}
    assert "mlops/alertmanager-receivers keeps its webhook-url: to use" in capsys.readouterr().out


def test_wrong_setting_of_a_receiver_fails_before_anything_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, None)
    monkeypatch.setenv("ALERT_SLACK_URL", "hooks.slack.com/secret")
    with pytest.raises(Failure, match="ALERT_SLACK_URL in the environment is not a URL: set it to https") as wrong:
        secrets.create()
    assert "secret" not in str(wrong.value)
    assert cluster.created == {}


def test_file_of_receivers_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    file = tmp_path / "receivers.env"
    lines = ["# team", "", "ALERT_WEBHOOK_URL=https://a.example/?x=1", "ALERT_SMTP_PASSWORD=p=w#d"]
    file.write_text("\n".join([*lines, f"ALERT_CA_FILE={tmp_path}/ca.pem\n"]))
    assert receivers.values({"ALERT_RECEIVERS_FILE": str(file), "ALERT_WEBHOOK_URL": "https://b.example"}) == {
        "webhook-url": "https://b.example",
        "smtp-password": "p=w#d",
        "ca.crt": "-----BEGIN CERTIFICATE-----\n",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ALERT_SLACK=https://x", "line 1 of .* is not NAME=value with one of these names: ALERT_WEBHOOK_URL, "),
        ("\nALERT_SLACK_URL", "line 2 of .* is not NAME=value"),
        ("ALERT_SLACK_URL=x", "ALERT_SLACK_URL in the environment or .* is not a URL"),
        ("ALERT_CA_FILE=/nowhere/ca.pem", "ALERT_CA_FILE names /nowhere/ca.pem, which cannot be read"),
        (None, "ALERT_RECEIVERS_FILE names .*, which cannot be read .*: name a text file"),
    ],
)
def test_wrong_file_of_receivers_fails_with_the_fix(content: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "receivers.env"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Failure, match=message):
        receivers.values({"ALERT_RECEIVERS_FILE": str(file)})


def test_secrets_for_another_store_are_files_that_only_their_owner_reads(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "secrets"
    files = secrets.write(folder)
    assert [file.stat().st_mode & 0o777 for file in (folder, *files)] == [0o700, *[0o600] * len(MADE)]
    manifests = {file.name: json.loads(file.read_text()) for file in files}
    assert set(manifests) == {f"{space}.{name}.json" for space, name in MADE}
    for (space, name), values in MADE.items():
        kind, metadata, content = (manifests[f"{space}.{name}.json"][key] for key in ("kind", "metadata", "stringData"))
        assert (kind, metadata["namespace"], metadata["name"]) == ("Secret", space, name)
        assert set(content) == set(values)
    uri = manifests["mlops.mlflow.json"]["stringData"]["MLFLOW_BACKEND_STORE_URI"]
    assert password(uri) == manifests["mlops.postgres.json"]["stringData"]["MLFLOW_PASSWORD"]


def test_secrets_for_another_store_are_not_mixed_with_older_ones(tmp_path: Path) -> None:
    secrets.write(tmp_path / "secrets")
    before = {file: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    with pytest.raises(Failure, match=r"secrets is not empty \(mlops-jobs\.pipeline\.json\): name a new one"):
        secrets.write(tmp_path / "secrets")
    assert {file: file.read_text() for file in (tmp_path / "secrets").iterdir()} == before


def test_folder_that_cannot_be_written_fails_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match=r"file cannot be written .*: name another folder"):
        secrets.write(tmp_path / "file")


def test_command_writes_files_without_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(secrets, "kube", lambda *_, **__: pytest.fail("the cluster was called"))
    monkeypatch.setattr("sys.argv", ["secrets", "--output", str(tmp_path / "secrets")])
    secrets._main()
    output = capsys.readouterr()
    assert f"wrote {len(MADE)} Secrets to {tmp_path}/secrets: delete the folder" in output.out + output.err
    written = json.loads((tmp_path / "secrets" / "mlops.minio.json").read_text())["stringData"]
    assert written["MINIO_ROOT_PASSWORD"] not in output.out + output.err
