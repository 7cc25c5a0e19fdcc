"""The guide for Secrets from elsewhere lists every Secret with its keys, and its examples fit to the code."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import takewhile
from typing import Any

import yaml

from ci.common.kube import JOBS, PLATFORM
from ci.common.paths import CHECKOUT
from ci.deploy import api_keys, receivers, rotate
from ci.deploy.secrets import Name, generate, namespace_object
from tests.charts.secret_references import OUTSIDE
from tests.kit.rendering import parse

GUIDE = (CHECKOUT / "docs" / "how-to" / "secrets-from-elsewhere.md").read_text()
MADE = {name: set(values) for name, values in generate(PLATFORM, JOBS).items()}


def table(last_column: str) -> dict[Name, tuple[set[str], str]]:
    """Keys and last cell of each row of the table with this last column, by namespace and name of the Secret."""
    head = f"| namespace | Secret | keys | {last_column} |\n"
    assert GUIDE.count(head) == 1, f"the guide has no table with the column {last_column}"
    rows = {}
    for line in takewhile(lambda line: line.startswith("|"), GUIDE.split(head)[1].splitlines()[1:]):
        space, name, keys, last = (cell.strip() for cell in line.strip("|").split("|"))
        rows[space.strip("`"), name.strip("`")] = (set(quoted(keys)), last)
    return rows


def quoted(cell: str) -> list[str]:
    """The names in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def examples(kind: str) -> list[dict[str, Any]]:
    """The manifests of a kind in the YAML blocks of the guide."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, flags=re.M | re.S)
    return [item for block in blocks for item in parse(block) if item["kind"] == kind]


def shared() -> dict[str, set[str]]:
    """Which other Secrets contain a value of each Secret: the Secrets that change together in a rotation."""
    partners: dict[str, set[str]] = defaultdict(set)
    for name in rotate.ROTATIONS:
        for _, other in rotate.changes(name):
            if other != name:
                partners[name].add(other)
                partners[other].add(name)
    return partners


def test_table_has_every_secret_and_key_that_make_secrets_creates() -> None:
    assert {name: keys for name, (keys, _) in table("shares values with").items()} == MADE


def test_number_of_secrets_in_the_text_is_right() -> None:
    assert len(MADE) == 11, "the guide says eleven in several sentences"
    assert "all 10 exist" in GUIDE


def test_table_names_the_secrets_that_share_values() -> None:
    listed = {name: set(quoted(last)) for (_, name), (_, last) in table("shares values with").items()}
    assert listed == {name: shared()[name] for _, name in MADE}


def test_table_has_every_optional_secret() -> None:
    rows = {name: keys for name, (keys, _) in table("needed for").items()}
    certificates = [keys for (_, name), keys in rows.items() if "tlsSecret" in name]
    assert certificates == [{"tls.crt", "tls.key"}]
    named = {name: keys for name, keys in rows.items() if "tlsSecret" not in name[1]}
    assert set(named) == OUTSIDE | {(PLATFORM, receivers.SECRET)}
    assert named[PLATFORM, receivers.SECRET] == {*receivers.KEYS.values(), receivers.CERTIFICATES_KEY}
    assert named[PLATFORM, "backup-target"] == {"ACCESS_KEY", "SECRET_KEY"}
    assert named[PLATFORM, api_keys.SECRET] == set(), "its keys are the names of clients"


def test_external_secret_creates_a_secret_of_the_platform_with_all_of_its_keys() -> None:
    [example] = examples("ExternalSecret")
    space, name, spec = example["metadata"]["namespace"], example["metadata"]["name"], example["spec"]
    assert spec["target"]["name"] == name
    assert [entry["secretKey"] for entry in spec["data"]] == [entry["remoteRef"]["property"] for entry in spec["data"]]
    assert {entry["secretKey"] for entry in spec["data"]} == MADE[space, name]
    assert {entry["remoteRef"]["key"] for entry in spec["data"]} == {f"house-platform/{space}/{name}"}


def test_sealed_secret_creates_a_secret_of_the_platform_with_all_of_its_keys() -> None:
    [example] = examples("SealedSecret")
    assert set(example["spec"]["encryptedData"]) == MADE[example["metadata"]["namespace"], example["metadata"]["name"]]


def test_namespaces_are_those_that_make_secrets_creates() -> None:
    assert examples("Namespace") == [namespace_object(PLATFORM), namespace_object(JOBS)]


def test_every_yaml_block_is_one_of_the_examples() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, flags=re.M | re.S)
    kinds = sorted({str(item["kind"]) for block in blocks for item in yaml.safe_load_all(block)})
    assert kinds == ["ExternalSecret", "Namespace", "SealedSecret"]
