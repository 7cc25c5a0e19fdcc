"""People of the login have the rights of their role in Airflow's API; nobody else gets in that way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from .conftest import DAGS

CONFIG = DAGS.parent / "config"
PASSWORD = "l" * 20  # of the login
# Sends each request of the file to Airflow's API in this process, and prints status and body of each answer.
ASK = """
import json, sys
from airflow.api_fastapi.app import create_app
from fastapi.testclient import TestClient
with TestClient(create_app(apps="core"), follow_redirects=False) as client:
    answers = []
    for method, path, headers, body in json.load(open(sys.argv[1])):
        answer = client.request(method, path, headers=headers, json=body)
        answers.append([answer.status_code, answer.headers.get("location", ""), answer.text[:2000]])
print("answers " + json.dumps(answers))
"""
ME = ("GET", "/ui/auth/me")
READ = ("GET", "/api/v2/pools")
TRIGGER = ("POST", "/api/v2/dags/none/dagRuns")  # 404 with the right to start a run, as there is no such DAG
CONNECT = ("POST", "/api/v2/connections")
DELETE = ("DELETE", "/api/v2/dags/none")
HAND_OVER = ("POST", "/api/v2/dags/none/dagRuns/r/taskInstances/t/xcomEntries")  # what a stage gives to the next
Asked = list[tuple[str, str, dict[str, str], object]]


def login(name: str, groups: str = "", password: str = PASSWORD) -> dict[str, str]:
    """The headers that the login sends."""
    encoded = b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}", "X-Forwarded-User": name, "X-Forwarded-Groups": groups}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an Airflow with a database of its own."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "passwords.json").write_text('{"admin": "of the Secret"}')
    run(home, sys.executable, "-m", "airflow", "db", "migrate")
    return home


def run(home: Path, *words: str, **more: str) -> str:
    """Run a program with the environment of Airflow's API."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith(("AIRFLOW", "LOGIN", "PYTEST"))}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__AUTH_MANAGER": "house_login.HouseAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:ADMIN",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__API_AUTH__JWT_SECRET": "s" * 64,
        "PYTHONPATH": str(CONFIG),
        "LOGIN_PASSWORD": PASSWORD,
        "LOGIN_ADMIN_GROUPS": "house-admins,root",
        "LOGIN_OPERATOR_GROUPS": "house-operators",
        "LOGIN_VIEWER_GROUPS": "house-viewers",
        **more,
    }
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=home, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(home: Path, requests: Asked, **more: str) -> list[Any]:
    """Status, target and body of the answer to each request."""
    (home / "requests.json").write_text(json.dumps(requests))
    output = run(home, sys.executable, "-c", ASK, str(home / "requests.json"), **more)
    [line] = [line for line in output.splitlines() if line.startswith("answers ")]
    answers: list[Any] = json.loads(line.removeprefix("answers "))
    return answers


def test_role_of_a_person_decides(airflow: Path) -> None:
    people = {
        "ada@house.example": "staff,house-admins", "otto": "house-operators", "vera": "house-viewers",
        "both": "house-viewers,house-operators", "admin": "house-viewers", "eve": "staff", "nobody": "",
        "near": "house-admin,HOUSE-ADMINS",
    }  # fmt: skip
    kinds = {"me": ME, "read": READ, "trigger": TRIGGER, "connect": CONNECT, "delete": DELETE, "hand over": HAND_OVER}
    bodies: dict[tuple[str, str], object] = {
        CONNECT: {"connection_id": "c", "conn_type": "http"},
        TRIGGER: {"logical_date": None},
        HAND_OVER: {"key": "return_value", "value": {"batch": 9}},
    }
    requests: Asked = [
        (*kind, login(name, groups), bodies.get(kind)) for name, groups in people.items() for kind in kinds.values()
    ]
    answers = iter(ask(airflow, requests))
    got = {name: {kind: next(answers) for kind in kinds} for name in people}
    codes = {name: {kind: answer[0] for kind, answer in each.items()} for name, each in got.items()}
    may_nothing = dict.fromkeys(kinds, 401)
    viewer = {"me": 200, "read": 200, "trigger": 403, "connect": 403, "delete": 403, "hand over": 403}
    assert codes == {
        "ada@house.example": {"me": 200, "read": 200, "trigger": 404, "connect": 201, "delete": 404, "hand over": 404},
        "otto": {**viewer, "trigger": 404},
        "vera": viewer,
        "both": {**viewer, "trigger": 404},
        "admin": viewer,  # a name gives no right
        "eve": may_nothing,
        "nobody": may_nothing,
        "near": may_nothing,
    }
    assert "ada@house.example" in got["ada@house.example"]["me"][2]


def test_credentials_that_are_not_of_the_login_let_nobody_in(airflow: Path) -> None:
    groups = "house-admins"
    wrong = [
        login("ada", groups, password="guessed"),
        login("ada", groups, password=""),
        login("", groups),
        {"Authorization": "Basic", "X-Forwarded-Groups": groups},
        {"Authorization": "Basic !!!", "X-Forwarded-Groups": groups},
        {"Authorization": f"Basic {b64encode(bytes([255, 254])).decode()}", "X-Forwarded-Groups": groups},
        {"Authorization": f"Bearer {PASSWORD}", "X-Forwarded-Groups": groups},
        {"X-Forwarded-User": "ada", "X-Forwarded-Groups": groups},
    ]
    answers = ask(airflow, [(*READ, headers, None) for headers in wrong])
    assert {answer[0] for answer in answers} <= {401, 403}
    assert ask(airflow, [(*READ, login("ada", groups, password=""), None)], LOGIN_PASSWORD="")[0][0] == 401


def test_users_of_the_secret_sign_in_as_before(airflow: Path) -> None:
    body = {"username": "admin", "password": "of the Secret"}
    [right, wrong] = ask(
        airflow, [("POST", "/auth/token", {}, body), ("POST", "/auth/token", {}, body | {"password": "x"})]
    )
    assert (right[0], wrong[0]) == (201, 401)
    token = json.loads(right[2])["access_token"]
    assert ask(airflow, [(*READ, {"Authorization": f"Bearer {token}"}, None)])[0][0] == 200


def test_person_signs_out_at_the_login_and_never_sees_the_form_of_airflow(airflow: Path) -> None:
    vera = login("vera", "house-viewers")
    out = "/api/v2/auth/logout"
    form = "/auth/login"
    requests: Asked = [
        ("GET", out, vera, None),
        ("GET", out, {}, None),
        ("GET", form, vera, None),
        ("GET", f"{form}?next=%2Fdags%2Fhouse", vera, None),
        ("GET", f"/api/v2{form}?next=http%3A%2F%2Ftestserver%2Fdags", vera, None),
        ("GET", f"{form}?next=https%3A%2F%2Fevil.example%2F", vera, None),
        ("GET", f"{form}?next=%2F%2Fevil.example", vera, None),
        ("GET", form, {}, None),
    ]
    targets = [answer[1] for answer in ask(airflow, requests)]
    assert targets[0] == "/oauth2/sign_out?rd=%2F"
    assert "oauth2" not in targets[1]
    assert targets[2:] == ["/", "/dags/house", "http://testserver/dags", "/", "/", ""]
