"""The service does what its OpenAPI document says, whatever it is asked: Schemathesis asks a process.

HOUSE_CASES is how many cases it makes (default: 300, the same each time; `make contract`: 5,000, others each time).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig

from ci.console import wait_for
from ci.local import LocalPlatform
from core.ledger import Ledger
from core.registry import ModelVersion
from predictor.cache import BundleCache

from .conftest import NOWHERE, Model

pytestmark = [pytest.mark.services, pytest.mark.timeout(1800)]

CASES = int(os.environ.get("HOUSE_CASES", "300"))
ADMIN_KEY = "key-of-the-test"
# what is wrong is refused with one of these: 413 is for a list that is too long, which Schemathesis does not know of
REFUSALS = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [401, 403, 404, 405, 413, 422]}}}
)


@pytest.fixture(scope="module")
def served(
    local: LocalPlatform, tmp_path_factory: pytest.TempPathFactory, models: tuple[Model, Model]
) -> Iterator[str]:
    """A predictor with a model and a ledger, and without MLflow."""
    folder = tmp_path_factory.mktemp("contract")
    cache = BundleCache(folder / "bundles")
    version = ModelVersion("house-price", "1", "run-1", {"manifest_sha256": models[0].sha256}, "")
    with cache.draft() as draft:
        shutil.copytree(models[0].folder, draft, dirs_exist_ok=True)
        cache.keep(version, draft)
    cache.note_served(version)
    dsn = local.database("contract")
    Ledger(dsn).ensure_schema()
    url = local.start_predictor(
        mlflow_tracking_uri=NOWHERE,
        ledger_dsn=dsn,
        bundle_dir=str(folder / "bundles"),
        prediction_log_dir=str(folder / "predictions"),
        poll_seconds="3600",
        admin_key=ADMIN_KEY,
    )
    wait_for("the model", lambda: httpx.get(f"{url}/health/ready").status_code == 200, 30)
    yield url
    local.stop("predictor")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_answer_is_one_of_the_document(served: str, mode: GenerationMode, subtests: pytest.Subtests) -> None:
    """Of what the document allows, and of what it does not: each answer has a status, type and shape that it names."""
    document = schemathesis.openapi.from_url(f"{served}/openapi.json", config=REFUSALS)
    operations = [found.ok() for found in document.get_all_operations()]
    with_body = [operation for operation in operations if operation.body]  # of others there is one case
    asked = 0
    for operation in operations:

        @settings(
            max_examples=CASES // 2 // len(with_body) if operation in with_body else 5,
            deadline=None,
            derandomize="HOUSE_CASES" not in os.environ,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Case) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30)

        with subtests.test(operation.label):
            try:
                ask()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, "a request without parameters cannot be wrong"
    print(f"{asked} cases of {len(operations)} operations, {mode.value}")


def test_other_methods_are_refused_with_those_that_are_not(served: str) -> None:
    document = httpx.get(f"{served}/openapi.json").json()
    for path, known in document["paths"].items():
        for method in {"get", "post", "put", "patch", "delete", "options", "trace"} - known.keys():
            answer = httpx.request(method.upper(), f"{served}{path}")
            assert answer.status_code == 405, f"{method} {path}"
            assert answer.headers["allow"].lower().split(", ") == sorted(known), f"{method} {path}"
