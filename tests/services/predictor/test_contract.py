"""The service conforms to its OpenAPI document. Schemathesis generates requests and sends them to a process.

HOUSE_CASES is the number of cases. The default is 300 and gives the same cases each time; `make contract` uses 5,000
random ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig

from ci.local.processes import LocalPlatform
from core.listing.schema import LATEST_SALE, OLDEST_SALE
from tests.kit.local_predictor import serving
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger

pytestmark = [pytest.mark.services, pytest.mark.timeout(1800)]

# JSON schema has no limits for dates, so the document gives them in the field's description
days = some.dates(OLDEST_SALE, LATEST_SALE).map(str)
schemathesis.openapi.format("date", days)
schemathesis.openapi.format("date-time", days.map("{}T12:00:00Z".format))

CASES = int(os.environ.get("HOUSE_CASES", "300"))
ADMIN_KEY = "key-of-the-test"
# allowed statuses for invalid requests; 413 is for a list that is too long, which Schemathesis does not expect
REFUSALS = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [401, 403, 404, 405, 413, 422]}}}
)


@pytest.fixture(scope="module")
def served(
    local: LocalPlatform, tmp_path_factory: pytest.TempPathFactory, models: tuple[Model, Model]
) -> Iterator[str]:
    """A predictor with a model and a ledger, but without MLflow."""
    folder = tmp_path_factory.mktemp("contract")
    with serving(local, models[0], folder, new_ledger(local, "contract"), admin_key=ADMIN_KEY) as url:
        yield url


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_answers_conform_to_the_document(served: str, mode: GenerationMode, subtests: pytest.Subtests) -> None:
    """Valid and invalid requests both get a status, a content type and a body that the document describes."""
    document = schemathesis.openapi.from_url(f"{served}/openapi.json", config=REFUSALS)
    operations = [result.ok() for result in document.get_all_operations()]
    with_body = [operation for operation in operations if operation.body]  # the other operations have only one case
    cases = 0
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
            nonlocal cases
            cases += 1
            case.call_and_validate(headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30)

        with subtests.test(operation.label):
            try:
                ask()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, "a request without parameters is never invalid"
    print(f"{cases} cases of {len(operations)} operations, {mode.value}")


def test_other_methods_get_405_with_the_allowed_ones(served: str) -> None:
    document = httpx.get(f"{served}/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in {"get", "post", "put", "patch", "delete", "options", "trace"} - operations.keys():
            answer = httpx.request(method.upper(), f"{served}{path}")
            assert answer.status_code == 405, f"{method} {path}"
            assert answer.headers["allow"].lower().split(", ") == sorted(operations), f"{method} {path}"
