"""The promises of the README, on a real cluster with real Airflow, MLflow, MinIO and PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ci.common.console import wait_for
from ci.common.kube import JOBS, PLATFORM, RELEASE, forward, get, kube, trouble
from ci.common.paths import CHECKOUT
from ci.common.sample_listing import LISTING
from ci.deploy import commands, helm_release, platform, runs, workloads
from ci.images import values
from core.model.bundle import load_bundle
from core.stores.registry import RegistryClient
from tests.kit.platform_data import ledger, mlflow_login

from .conftest import Fed

pytestmark = pytest.mark.e2e


def stored() -> dict[str, list[list[str]]]:
    """Rows of the ledger that a repeated batch must not change."""
    return {
        "batches": ledger("select batch_number, sha256, rows from ledger.batches order by 1, 2"),
        "decisions": ledger("select count(*) from ledger.decisions"),
        "trainings": ledger("select count(*) from ledger.trainings"),
        "promotions": ledger("select count(*) from ledger.promotions"),
    }


def test_first_batch_is_trained_registered_and_promoted(fed: Fed) -> None:
    states = {task.name: task.state for task in fed.first.tasks}
    assert states.pop("reject") == "skipped"
    assert set(states.values()) == {"success"}, states
    promoted = fed.first.task("promote").result
    assert promoted["promoted"] is True, promoted


def test_alias_champion_names_a_registered_version(fed: Fed, mlflow: str) -> None:
    champion = RegistryClient(mlflow, mlflow_login("viewer"), timeout=20).version_by_alias("house-price", "champion")
    assert champion is not None
    assert champion.version == fed.first.task("promote").result["version"]


def test_smoke_test_passes_from_the_command_line_and_from_helm_and_cleans_up(fed: Fed, mlflow: str) -> None:
    assert commands.run(["smoke"]) == 0
    assert "Phase:          Succeeded" in helm_release.helm("test", RELEASE, "-n", PLATFORM)
    steps = kube("-n", JOBS, "logs", "job/pipeline-smoke")
    assert "load      it is complete and gives its golden prices" in steps
    assert (
        RegistryClient(mlflow, mlflow_login("viewer"), timeout=20).version_by_alias("house-price-smoke", "champion")
        is None
    )


def test_lineage_command_prints_the_run_of_the_champion(fed: Fed, capfd: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["lineage", "--version", fed.first.task("promote").result["version"]]) == 0
    assert fed.first.task("train").result["run_id"] in capfd.readouterr().out


def test_small_one_sided_batch_is_skipped_with_its_reason(fed: Fed) -> None:
    decide = fed.second.task("decide")
    assert (decide.state, decide.result["decision"]) == ("success", "skip"), decide
    skipped = {task.name for task in fed.second.tasks if task.state == "skipped"}
    assert skipped == {"train", "evaluate", "promote", "reject"}
    assert fed.second.task("report").state == "success"
    decision = ledger("select decision, reason from ledger.decisions where batch_number = 3")
    assert decision
    assert decision[0][0] == "skip"
    assert "rows" in decision[0][1], f"the reason has no number: {decision}"


def test_service_returns_the_golden_prices_of_the_bundle(predictor: str, mlflow: str, tmp_path: Path) -> None:
    client = RegistryClient(mlflow, mlflow_login("viewer"), timeout=20)
    champion = client.version_by_alias("house-price", "champion")
    assert champion is not None
    client.download(champion, tmp_path)
    bundle = load_bundle(tmp_path)
    answer = httpx.post(f"{predictor}/predict", json=bundle.golden_listings, timeout=20)
    assert answer.status_code == 200, answer.text
    assert answer.json()["prices"] == bundle.golden_prices
    assert [answer.json()[end] for end in ("low", "high")] == [bundle.golden_low, bundle.golden_high]
    assert bundle.intervals
    assert answer.json()["model_version"] == champion.version


@pytest.mark.parametrize(
    "change",
    [{"city": "Nowhere at all"}, {"zip_code": "01001"}, dict.fromkeys(LISTING), {"state": None, "bed": 3}],
    ids=["unknown city", "string zip", "all null", "no state, int bed"],
)
def test_unusual_listing_is_priced(predictor: str, change: dict[str, object]) -> None:
    answer = httpx.post(f"{predictor}/predict", json={**LISTING, **change}, timeout=20)
    assert answer.status_code == 200, answer.text
    assert answer.json()["price"] > 0


def test_invalid_listing_is_refused_with_the_name_of_the_field(predictor: str) -> None:
    answer = httpx.post(f"{predictor}/predict", json={**LISTING, "bed": "many"}, timeout=20)
    assert answer.status_code == 422
    assert "bed" in json.dumps(answer.json()["detail"])


def test_every_pod_is_ready_and_never_restarted(predictor: str) -> None:
    restarts = []
    for pod in workloads.pods():
        name = pod["metadata"]["name"]
        assert not trouble(pod), f"{name}: {trouble(pod)}"
        for box in pod["status"]["containerStatuses"]:
            if box["restartCount"]:
                log = kube("logs", name, "-n", PLATFORM, "-c", box["name"], "--previous", "--tail=40", check=False)
                restarts.append(f"{name}, container {box['name']}: {box.get('lastState')}\n{log}")
    assert not restarts, "\n".join(restarts)


def doctor(*options: str) -> dict[str, dict[str, str]]:
    """Results of the doctor, by check."""
    done = subprocess.run(
        [sys.executable, "-m", "ci.doctor", "--env", "kind", "--installed", "--json", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {one["check"]: one for one in json.loads(done.stdout)["results"]}


def test_doctor_reports_no_problem_and_confirms_that_policies_deny(predictor: str) -> None:
    results = doctor("--probe")
    images = {f"image {name}" for name in values.read("kind")}
    of_cluster = {"kubernetes", "nodes", "storage", "secrets", "policies", "mlflow", "objects", "jobs", "pods"} | images
    assert {name: results[name]["level"] for name in of_cluster} == dict.fromkeys(of_cluster, "ok"), results


def test_pods_and_api_report_the_commit_and_digest_of_their_image(predictor: str) -> None:
    images = {name: (entry.commit or "unknown", entry.digest) for name, entry in values.read("kind").items()}
    version = httpx.get(f"{predictor}/version", timeout=20).json()
    assert (version["commit"], version["image_digest"]) == images["predictor"]
    for pod in workloads.pods():
        name = pod["spec"]["containers"][0]["image"].partition("@")[0].rpartition("/")[2].partition(":")[0]
        if name in images:
            annotations = pod["metadata"]["annotations"]
            origin = (annotations["house-platform/commit"], annotations.get("house-platform/image-digest", ""))
            assert origin == images[name], pod["metadata"]["name"]


@pytest.mark.parametrize("namespace", [PLATFORM, JOBS])
def test_namespaces_refuse_privileged_pods(installed: list[str], namespace: str) -> None:
    labels = get("namespace", namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged", "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "x", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(Exception, match="violates PodSecurity"):
        kube("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_prometheus_scrapes_every_component(predictor: str) -> None:
    with forward(PLATFORM, "service/prometheus", 9090) as prometheus:

        def down() -> list[str]:
            targets = httpx.get(f"{prometheus}/api/v1/targets?state=active", timeout=20).json()["data"]["activeTargets"]
            return [f"{t['labels']['job']}: {t['lastError']}" for t in targets if t["health"] != "up"]

        wait_for("all targets up", lambda: not down(), 90, every=3)


def test_failed_run_fires_its_alert(predictor: str) -> None:
    """The run to the end of the data failed, because batches are missing."""
    with forward(PLATFORM, "service/prometheus", 9090) as prometheus:

        def firing() -> bool:
            active = httpx.get(f"{prometheus}/api/v1/alerts", timeout=20).json()["data"]["alerts"]
            return "PipelineRunFailed" in {alert["labels"]["alertname"] for alert in active}

        wait_for("the alert PipelineRunFailed", firing, 120, every=3)


def test_only_alerts_with_a_cause_fire(predictor: str) -> None:
    """Also pending ones: an alert that is always on reaches nobody when it counts."""
    caused = {"BatchesMissing", "PipelineRunFailed", "DataSkewed", "Watchdog"}
    with forward(PLATFORM, "service/prometheus", 9090) as prometheus:

        def others() -> list[str]:
            active = httpx.get(f"{prometheus}/api/v1/alerts", timeout=20).json()["data"]["alerts"]
            return [f"{alert['state']}: {alert['labels']}" for alert in active
                    if alert["labels"]["alertname"] not in caused]  # fmt: skip

        wait_for("an end of all other alerts", lambda: not others(), 180, every=5)


def test_every_dashboard_query_returns_data(predictor: str) -> None:
    from ci.monitoring.panels import panel_queries

    for _ in range(5):
        answer = httpx.post(f"{predictor}/predict", json=LISTING, timeout=20).json()
    feedback = {"request_id": answer["request_id"], "price": answer["price"]}
    wait_for("the log", lambda: httpx.post(f"{predictor}/feedback", json=feedback, timeout=20).status_code == 200, 30)
    with forward(PLATFORM, "service/prometheus", 9090) as prometheus:
        empty: list[str] = []

        def all_answer() -> bool:
            empty.clear()
            for title, query in panel_queries().items():
                answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=20).json()
                if answer["status"] != "success" or not answer["data"]["result"]:
                    empty.append(f"{title}: {query}: {answer.get('error', 'no data')}")
            return not empty

        try:
            wait_for("data for every query", all_answer, 150, every=5)
        except Exception as late:
            raise AssertionError("no data for\n" + "\n".join(empty)) from late


def test_streamlit_page_loads(predictor: str) -> None:
    with forward(PLATFORM, "service/streamlit", 8501) as page:
        assert httpx.get(f"{page}/_stcore/health", timeout=20).text == "ok"
        assert "<title>" in httpx.get(page, timeout=20).text


def in_page(script: str) -> dict[str, Any]:
    """Run a script in the pod of the pages, with their settings, key and network policies; returns what it prints."""
    page = (
        "import json\n"
        "from ui import operations\n"
        "from ui.predictor import Predictor\n"
        "from ui.prometheus import Prometheus\n"
        "from ui.settings import load\n"
        "settings = load()\n"
        "predictor = Predictor(settings.predictor_url, settings.predictor_api_key)\n"
        "prometheus = Prometheus(settings.prometheus_url)\n"
    )
    output = kube("-n", PLATFORM, "exec", "deployment/streamlit", "--", "python", "-c", page + script)
    body: dict[str, Any] = json.loads(output)
    return body


def test_page_operations_has_data_for_every_query(predictor: str) -> None:
    httpx.post(f"{predictor}/predict", json=LISTING, timeout=20).raise_for_status()
    script = (
        "prometheus.firing()\n"
        "series = {query: len(prometheus.now(query)) for query in operations.QUERIES}\n"
        "series |= {trend.title: len(prometheus.range(trend.query, 600)) for trend in operations.TRENDS}\n"
        "print(json.dumps(series))\n"
    )

    def empty() -> list[str]:
        # backups are disabled in this environment
        return [query for query, count in in_page(script).items() if not count and "house_backup_" not in query]

    wait_for("data for every query", lambda: not empty(), 120, every=5)


def test_price_of_the_page_is_recorded_and_accepts_its_true_price(predictor: str) -> None:
    answer = in_page(f"print(json.dumps(predictor.explain({LISTING!r})))")
    request_id, price = answer["request_id"], answer["price"]
    query = f"select position, status, price from ledger.predictions where request_id = '{request_id}'"  # noqa: S608
    wait_for("the price in the ledger", lambda: bool(ledger(query)), 30)
    position, status, recorded = ledger(query)[0]
    assert (position, status, float(recorded)) == ("0", "200", price)
    true = round(price) + 1_000
    assert in_page(f"print(json.dumps(predictor.feedback({request_id!r}, {true})))") == {
        "request_id": request_id, "position": 0, "price": true,
    }  # fmt: skip
    stored = ledger(f"select price from ledger.feedback where request_id = '{request_id}'")  # noqa: S608
    assert [float(row[0]) for row in stored] == [true]


def test_history_has_both_decisions(predictor: str) -> None:
    history = httpx.get(f"{predictor}/history", timeout=20)
    assert history.status_code == 200, history.text
    body = json.dumps(history.json())
    assert '"train"' in body
    assert '"skip"' in body


def test_run_after_the_end_of_data_adds_nothing(predictor: str) -> None:
    before = stored()
    with runs.airflow() as client:
        ended = runs.run_once(client)
    assert ended.end_of_data, ended
    assert stored() == before


def test_repeated_batches_are_stored_once(predictor: str, installed: list[str]) -> None:
    before = stored()
    url = next((v.split("=", 1)[1] for v in installed if "dataApiUrl" in v), None)
    if url:
        httpx.get(
            f"{url}/restart_data_generation", params={"group_number": 1, "day": "Tuesday"}, timeout=20
        ).raise_for_status()
    else:
        with forward(PLATFORM, "service/datasource", 8000) as source:
            httpx.get(f"{source}/restart_data_generation", params={"group_number": 1, "day": "Tuesday"}, timeout=20)
    with runs.airflow() as client:
        repeated = runs.run_once(client)
    assert repeated.tasks[0].state == "skipped", repeated.tasks[0]
    assert stored() == before


def test_predictions_continue_while_mlflow_is_down(predictor: str) -> None:
    kube("-n", PLATFORM, "scale", "deployment/mlflow", "--replicas=0")
    try:
        kube("-n", PLATFORM, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=mlflow", "--timeout=60s")
        ended = time.monotonic() + 15
        while time.monotonic() < ended:
            answer = httpx.post(f"{predictor}/predict", json=LISTING, timeout=5)
            assert answer.status_code == 200, answer.text
            time.sleep(0.5)
        assert httpx.get(f"{predictor}/model", timeout=5).json()["stale"] is True
    finally:
        kube("-n", PLATFORM, "scale", "deployment/mlflow", "--replicas=1")
        kube("-n", PLATFORM, "rollout", "status", "deployment/mlflow", "--timeout=120s", timeout=150)


def test_lost_and_edited_objects_are_named_and_restored(predictor: str, installed: list[str]) -> None:
    """A deleted policy, a deleted Job that had succeeded, and another limit of memory."""
    assert platform.install("kind", installed) is False, "an object differs before anything was edited"
    policy = get("networkpolicy", "postgres", "-n", PLATFORM)["spec"]
    pod = get("deployment", "streamlit", "-n", PLATFORM)["spec"]["template"]["spec"]
    [job] = get("jobs", "-n", PLATFORM, "-l", "app.kubernetes.io/name=minio-provision")["items"]
    name = job["metadata"]["name"]
    container = {"name": "streamlit", "resources": {"limits": {"memory": "400Mi"}}}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    try:
        kube("-n", PLATFORM, "delete", "networkpolicy", "postgres")
        kube("-n", PLATFORM, "delete", "job", name, "--timeout=60s")
        kube("-n", PLATFORM, "patch", "deployment", "streamlit", "--type=strategic", "-p", json.dumps(patch))
        reported = doctor()["objects"]
    finally:
        changed = platform.install("kind", installed)
    assert (reported["level"], reported["what"].split("; ")) == (
        "fail",
        [
            "Deployment/streamlit differs in spec.template.spec.containers[streamlit].resources.limits.memory",
            f"Job/{name} is missing",
            "NetworkPolicy/postgres is missing",
        ],
    )
    assert changed
    workloads.wait_ready()
    assert doctor()["objects"]["level"] == "ok"
    assert get("networkpolicy", "postgres", "-n", PLATFORM)["spec"] == policy
    assert get("deployment", "streamlit", "-n", PLATFORM)["spec"]["template"]["spec"] == pod
    assert platform.install("kind", installed) is False
