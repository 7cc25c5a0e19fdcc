"""`make rotate-secret` changes every place where a value stands, in an order that keeps clients working."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ci.common.console import Failure
from ci.common.kube import JOBS, PLATFORM
from ci.deploy import rotate
from ci.deploy.secrets import Name, generate
from tests.kit.rendering import objects

Values = dict[Name, dict[str, str]]


def consistent(values: Values) -> None:
    """Assert that every client has the password and the keys that its server has."""
    server, users = values[PLATFORM, "postgres"], values[PLATFORM, "minio-users"]
    for role, name, key in (
        ("AIRFLOW", "airflow", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
        ("MLFLOW", "mlflow", "MLFLOW_BACKEND_STORE_URI"),
        ("PREDICTOR", "fastapi", "LEDGER_DSN"),
    ):
        assert f":{server[f'{role}_PASSWORD']}@" in values[PLATFORM, name][key], role
    assert f":{server['LEDGER_PASSWORD']}@" in values[JOBS, "pipeline"]["LEDGER_DSN"]
    registry = values[PLATFORM, "mlflow"]
    assert values[PLATFORM, "fastapi"]["MLFLOW_TRACKING_PASSWORD"] == registry["PREDICTOR_PASSWORD"]
    assert values[JOBS, "pipeline"]["MLFLOW_TRACKING_PASSWORD"] == registry["PIPELINE_PASSWORD"]
    connection = json.loads(values[PLATFORM, "airflow"]["AIRFLOW_CONN_MINIO"])
    pairs = {
        "AIRFLOW": (connection["login"], connection["password"]),
        "BATCH": tuple(values[PLATFORM, "fastapi-batch"][f"S3_{kind}_KEY"] for kind in ("ACCESS", "SECRET")),
        "MLFLOW": tuple(values[PLATFORM, "mlflow"][key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        "PIPELINE": tuple(values[JOBS, "pipeline"][f"S3_{kind}_KEY"] for kind in ("ACCESS", "SECRET")),
    }
    for user, pair in pairs.items():
        assert pair == (users[f"{user}_ACCESS_KEY"], users[f"{user}_SECRET_KEY"]), user


@pytest.mark.parametrize("name", rotate.ROTATIONS)
def test_rotation_changes_its_secret_and_leaves_all_secrets_consistent(name: str) -> None:
    before = generate(PLATFORM, JOBS)
    consistent(before)
    changes = rotate.changes(name)
    after = {each: values | changes.get(each, {}) for each, values in before.items()}
    consistent(after)
    own = (rotate.ROTATIONS[name].namespace, name)
    constant = {"admin-user"}
    if name == "postgres":  # the other passwords belong to clients
        constant |= {f"{role}_PASSWORD" for role in ("AIRFLOW", "MLFLOW", "LEDGER", "PREDICTOR")}
    if name == "airflow-login":
        constant |= {"LOGIN_PASSWORD"}
    if name == "mlflow":
        constant |= {f"{user}_PASSWORD" for user in ("PIPELINE", "PREDICTOR", "LOGIN")}
    for key, value in before[own].items():
        assert (after[own][key] == value) is (key in constant), key


def test_rotations_together_change_every_value_of_every_secret() -> None:
    changed: dict[Name, set[str]] = {}
    for name in rotate.ROTATIONS:
        for each, values in rotate.changes(name).items():
            changed.setdefault(each, set()).update(values)
    assert changed == {each: set(values) for each, values in generate(PLATFORM, JOBS).items()}


@pytest.mark.parametrize("env", ["kind", "vm", "prod"])
def test_every_workload_that_reads_a_secret_restarts(env: str) -> None:
    for item in objects(env):
        if item["kind"] not in ("Deployment", "StatefulSet") or item["metadata"]["name"] == "alertmanager":
            continue
        workload = f"{item['kind'].lower()}/{item['metadata']['name']}"
        for name in secrets_of(item["spec"]["template"]["spec"]) - {"fastapi-clients"}:
            if (name, workload) == ("postgres", "statefulset/postgres"):
                continue  # its passwords are changed in the running server
            assert workload in rotate.ROTATIONS[name].restarts, f"{workload} reads {name}"


def secrets_of(spec: dict[str, Any]) -> set[str]:
    names = {volume["secret"]["secretName"] for volume in spec.get("volumes", []) if "secret" in volume}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        names |= {source["secretRef"]["name"] for source in container.get("envFrom", []) if "secretRef" in source}
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            names |= {reference["name"]} if reference else set()
    return names


class Cluster:
    """Stand-in for the cluster: the Secrets, and what happened, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, late: tuple[str, ...] = ()) -> None:
        self.secrets = generate(PLATFORM, JOBS)
        self.events: list[str] = []
        monkeypatch.setattr(rotate, "kube", self.kube)
        monkeypatch.setattr(rotate, "add", self.add)
        monkeypatch.setattr(rotate, "secret", lambda space, name: dict(self.secrets[space, name]))
        jobs = [item for item in objects("kind") if item["kind"] == "Job"]
        monkeypatch.setattr(rotate, "get", lambda *_: {"items": jobs})
        monkeypatch.setattr(rotate.workloads, "late_workloads", lambda: list(late))
        monkeypatch.setattr(rotate.one_job, "run", self.job)
        monkeypatch.setattr(rotate, "_wait_until_idle", lambda: self.events.append("idle"))

    def add(self, name: Name, values: dict[str, str], exists: bool) -> None:
        assert exists
        self.secrets[name] |= values
        self.events.append(f"Secret {name[1]}")

    def job(self, job: dict[str, Any]) -> None:
        [container] = job["spec"]["template"]["spec"]["containers"]
        clean = json.loads(next(one["value"] for one in container["env"] if one["name"] == "CLEAN_USERS"))
        self.events.append(f"clean {clean}" if clean else "users")

    def kube(self, *words: str, stdin: str = "", **_: Any) -> str:
        if "psql" in words:
            assert not any("password" in word for word in words), "a password is an argument"
            self.events.append("alter " + ",".join(re.findall(r"rolname = '(\w+)'", stdin)))
        elif "rotate-fernet-key" in words:
            assert len(self.secrets[PLATFORM, "airflow"][rotate.FERNET].split(",")) == 2
            self.events.append("fernet")
        elif "get" in words:
            return "" if words[3] == "deployment/grafana" else words[3]
        elif "restart" in words:
            self.events.append(f"restart {words[-1]}")
        elif "status" in words:
            self.events.append(f"ready {words[4]}")
        return ""


def test_client_of_database_and_bucket_changes_between_its_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    rotate.rotate("mlflow")
    assert cluster.events == [
        "Secret minio-users", "users", "Secret postgres", "alter mlflow", "Secret mlflow",
        "restart deployment/mlflow", "ready deployment/mlflow", "clean ['mlflow']",
    ]  # fmt: skip
    consistent(cluster.secrets)


def test_old_key_of_the_page_is_accepted_until_the_page_has_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    old = cluster.secrets[PLATFORM, "fastapi"]["API_KEYS"]
    cluster.secrets[PLATFORM, "fastapi"]["API_KEYS"] = f"{old},shop"
    accepted: list[str] = []
    add = cluster.add

    def keep(name: Name, values: dict[str, str], exists: bool) -> None:
        add(name, values, exists)
        if name[1] == "fastapi":
            accepted.append(cluster.secrets[name]["API_KEYS"])

    monkeypatch.setattr(rotate, "add", keep)
    rotate.rotate("fastapi")
    new = accepted[0].partition(",")[0]
    assert new not in ("", old)
    assert accepted == [f"{new},{old},shop", f"{new},shop"], (
        "the page sends the first key, and another client has its own"
    )
    restarts = [event for event in cluster.events if event.startswith("restart")]
    assert (
        restarts == ["restart deployment/mlflow"] + ["restart deployment/fastapi", "restart deployment/streamlit"] * 2
    )


def test_airflow_changes_while_no_run_is_active_and_encrypts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    rotate.rotate("airflow")
    assert cluster.events[0] == "idle"
    assert cluster.events.index("fernet") > cluster.events.index("ready deployment/airflow-dag-processor")
    assert "," not in cluster.secrets[PLATFORM, "airflow"][rotate.FERNET]
    consistent(cluster.secrets)


def test_interrupted_rotation_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    monkeypatch.setattr(rotate, "_alter", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rotate.rotate("pipeline")
    monkeypatch.undo()
    again = Cluster(monkeypatch)
    again.secrets = cluster.secrets
    rotate.rotate("pipeline")
    consistent(again.secrets)


def test_workload_that_is_not_installed_or_was_not_ready_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, late=("deployment/fastapi",))
    rotate.rotate("grafana")
    assert cluster.events == ["Secret grafana"], "Grafana is not installed"
    rotate.rotate("fastapi")
    assert "restart deployment/fastapi" in cluster.events
    assert "ready deployment/fastapi" not in cluster.events


@pytest.mark.parametrize(("name", "words"), [("minio-users", "rotate airflow,"), ("other", "Choose one of: airflow,")])
def test_wrong_name_changes_nothing(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    with pytest.raises(Failure, match=words):
        rotate.rotate(name)
    assert not cluster.events
