"""The Alertmanager of the image accepts every configuration that the chart renders, and its notifications arrive.

Marked e2e: compiling Alertmanager for this alone takes minutes, and `make e2e` has the image.
"""

from __future__ import annotations

import base64
import email
import json
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ci.common.console import wait_for
from ci.images import archive
from ci.local.processes import answers, free_port
from tests.kit.rendering import find, parse, text

from .programs import built, program

pytestmark = pytest.mark.e2e

EMAIL = {"to": "team@house.example", "from": "alerts@house.example", "username": "alerts"}
RECEIVERS: dict[str, dict[str, dict[str, object]]] = {
    "none": {},
    "webhook": {"webhook": {}},
    "slack": {"slack": {}},
    "email": {"email": {**EMAIL, "smarthost": "smtp.house.example:587"}},
    "heartbeat": {"heartbeat": {}},
    "all": {"webhook": {}, "slack": {}, "email": {**EMAIL, "smarthost": "smtp.house.example:465"}, "heartbeat": {}},
}
PASSWORD = "correct horse"  # of the mail server below
ALERT = {"alertname": "MinioDown", "severity": "critical"}
NOTES = {"summary": "The object store is down", "description": "Stages have no data.", "runbook_url": "MinioDown.md"}


def rendered(receivers: Mapping[str, Mapping[str, object]], secrets: Path) -> dict[str, Any]:
    """The chart's configuration with these receivers, whose files are in the folder `secrets`."""
    on = {name: {**settings, "enabled": True} for name, settings in receivers.items()}
    words = ("--set-json", f"monitoring.alertmanager.receivers={json.dumps(on)}")
    items = parse(text("kind", *words, "--set", "global.notifications.cidr=10.43.100.104/32"))
    configuration = find(items, "ConfigMap", "alertmanager")["data"]["alertmanager.yaml"]
    settings: dict[str, Any] = yaml.safe_load(configuration.replace("/etc/receivers", str(secrets)))
    return settings


def hurry(route: dict[str, Any]) -> None:
    """Shorten the waits of a route and of its children."""
    route |= {"group_wait": "0s", "group_interval": "1s"}
    for child in route.get("routes", []):
        hurry(child)


@contextmanager
def alertmanager(folder: Path, configuration: dict[str, Any]) -> Iterator[str]:
    """Run the image's Alertmanager with this configuration; yields its URL."""
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(configuration))
    url = f"127.0.0.1:{free_port()}"
    words = [str(program("alertmanager", folder)), "--config.file=alertmanager.yaml", "--storage.path=data"]
    words += ["--cluster.listen-address=", f"--web.listen-address={url}"]
    log = folder / "log"
    with log.open("w") as sink, subprocess.Popen(words, cwd=folder, stdout=sink, stderr=sink) as running:

        def ready() -> bool:
            assert running.poll() is None, log.read_text()
            return answers(f"http://{url}/-/ready")

        try:
            wait_for("Alertmanager", ready, 30, every=0.1)
            yield f"http://{url}"
        finally:
            running.terminate()


def post(url: str, labels: dict[str, str], ended: bool = False) -> None:
    """Send an alert that fires, or its end, as Prometheus does."""
    now = datetime.now(UTC)
    end = now if ended else now + timedelta(minutes=4)
    alert = {"labels": labels, "annotations": NOTES, "startsAt": (now - timedelta(minutes=1)).isoformat()}
    httpx.post(f"{url}/api/v2/alerts", json=[alert | {"endsAt": end.isoformat()}], timeout=10).raise_for_status()


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def http_receiver() -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """A server that keeps the JSON bodies of all POSTs, by path. Yields its URL and them."""
    bodies: dict[str, list[dict[str, Any]]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies.setdefault(self.path, []).append(json.loads(body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")  # as Slack answers; without it Alertmanager sends the notification again

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}", bodies


@contextmanager
def mail_server() -> Iterator[tuple[str, list[str], list[str]]]:
    """A mail server with a login, without TLS. Yields its address, its logins, and the e-mails that it accepted."""
    logins: list[str] = []
    mails: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def reply(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.reply("220 ready")
            while command := self.rfile.readline().decode().strip():
                match command.upper().split()[0]:
                    case "EHLO":
                        self.reply("250-localhost\r\n250 AUTH PLAIN")
                    case "AUTH":
                        logins.append(base64.b64decode(command.split()[2]).decode())
                        self.reply("235 welcome")
                    case "DATA":
                        self.reply("354 go on")
                        lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                        mails.append("".join(lines))
                        self.reply("250 accepted")
                    case "QUIT":
                        self.reply("221 bye")
                        return
                    case _:
                        self.reply("250 ok")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"127.0.0.1:{server.server_address[1]}", logins, mails


@pytest.mark.parametrize("case", RECEIVERS)
def test_rendered_configuration_is_accepted(case: str, tmp_path: Path) -> None:
    with alertmanager(tmp_path, rendered(RECEIVERS[case], tmp_path)) as url:
        assert "alertmanager_config_last_reload_successful 1" in httpx.get(f"{url}/metrics", timeout=10).text


def test_wrong_configuration_is_refused(tmp_path: Path) -> None:
    """Otherwise the test above would pass for any configuration."""
    configuration = rendered(RECEIVERS["slack"], tmp_path)
    [slack] = configuration["receivers"][0]["slack_configs"]
    slack["api_url_fil"] = slack.pop("api_url_file")
    with pytest.raises(AssertionError, match="api_url_fil"), alertmanager(tmp_path, configuration):
        pass


@pytest.mark.parametrize("case", ["webhook", "slack", "email"])
def test_alert_and_its_end_arrive_and_the_watchdog_does_not(case: str, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    with http_receiver() as (web, bodies), mail_server() as (smarthost, logins, mails):
        values: dict[str, dict[str, object]] = {"webhook": {"webhook": {}}, "slack": {"slack": {}}}.get(
            case, {"email": {**EMAIL, "smarthost": "localhost:25", "requireTls": False}}
        )
        (secrets / "webhook-url").write_text(f"{web}/webhook\n")
        (secrets / "slack-url").write_text(f"{web}/slack\n")
        (secrets / "smtp-password").write_text(f"{PASSWORD}\n")
        configuration = rendered(values, secrets)
        hurry(configuration["route"])
        for settings in configuration["receivers"][0].get("email_configs", []):
            settings["smarthost"] = smarthost
        arrived: Callable[[], list[str]] = {
            "webhook": lambda: [f"{body['status']} {body['commonLabels']['alertname']}: "
                                f"{body['commonAnnotations']['summary']}" for body in bodies.get("/webhook", [])],
            "slack": lambda: [_slack_line(body) for body in bodies.get("/slack", [])],
            "email": lambda: [str(email.message_from_string(mail, policy=policy.default)["subject"]) for mail in mails],
        }[case]  # fmt: skip
        begin, end = {
            "webhook": (f"firing MinioDown: {NOTES['summary']}", f"resolved MinioDown: {NOTES['summary']}"),
            "slack": (f"critical: MinioDown *{NOTES['summary']}*", f"ended: MinioDown *{NOTES['summary']}*"),
            "email": ("[FIRING:1] MinioDown (critical)", "[RESOLVED] MinioDown (critical)"),
        }[case]
        with alertmanager(tmp_path, configuration) as url:
            post(url, {"alertname": "Watchdog", "severity": "none"})
            post(url, ALERT)
            wait_for(f"the alert by {case}", lambda: begin in arrived(), 20)
            post(url, ALERT, ended=True)
            wait_for(f"its end by {case}", lambda: end in arrived(), 20)
        assert set(arrived()) == {begin, end}
        assert set(logins) == ({f"\0alerts\0{PASSWORD}"} if case == "email" else set())


def _slack_line(body: dict[str, Any]) -> str:
    [attachment] = body["attachments"]
    return f"{attachment['title']} {attachment['text'].splitlines()[0]}"


def test_only_the_watchdog_arrives_at_the_heartbeat_and_again_and_again(tmp_path: Path) -> None:
    with http_receiver() as (web, bodies):
        (tmp_path / "heartbeat-url").write_text(f"{web}/heartbeat")
        configuration = rendered({"heartbeat": {}}, tmp_path)
        hurry(configuration["route"])
        configuration["route"]["routes"][0]["repeat_interval"] = "1s"
        with alertmanager(tmp_path, configuration) as url:
            post(url, ALERT)
            post(url, {"alertname": "Watchdog", "severity": "none"})
            wait_for("three calls", lambda: len(bodies.get("/heartbeat", [])) >= 3, 30)
        names = {alert["labels"]["alertname"] for body in bodies["/heartbeat"] for alert in body["alerts"]}
        assert names == {"Watchdog"}


def test_image_trusts_debians_authorities() -> None:
    """Receivers have https and SMTP with TLS; an image from scratch trusts nobody."""
    settings = archive.contents(built("alertmanager"))[1]["config"]
    [folder] = [word.partition("=")[2] for word in settings["Env"] if word.startswith("SSL_CERT_DIR=")]
    certificates = [member.name for member, _ in archive.files(built("alertmanager"))
                    if f"/{member.name}".startswith(f"{folder}/")]  # fmt: skip
    assert len([name for name in certificates if name.endswith(".crt")]) > 50
