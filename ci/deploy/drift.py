"""Compares the objects of a manifest with the cluster.

The API server applies each object in a dry run. It answers with the live object, changed in every field that the
manifest sets, after defaulting, normalisation (`0.5` becomes `500m`) and admission. If this answer differs from the
live object in a field, the cluster has another value there than the manifest. Fields that the manifest does not set are
not compared.

python -m ci.deploy.drift     every object of Helm's release that is missing or differs; ends with 1 if there is one
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ci.common.console import Failure, line, main
from ci.common.kube import PLATFORM, RELEASE, NoCluster, Object, as_list, helm, kube, on_cluster

Key = tuple[str, str, str, str]  # API version, kind, namespace, name

# Fields of metadata that the API server writes, and that change without a change of the object's content.
SERVER_FIELDS = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
FIELD_MANAGER = "make-install"
FORBIDDEN = "cannot patch resource"  # the user may only read; the API server answers so for every object


@dataclass(frozen=True)
class Difference:
    """An object of the manifest that is missing in the cluster, or differs there."""

    kind: str
    namespace: str  # "" for an object outside of namespaces
    name: str
    missing: bool = False
    fields: tuple[str, ...] = ()  # paths; example: `spec.template.spec.containers[mlflow].resources.limits.memory`
    refusal: str = ""  # answer of the API server if it refuses the object of the manifest in place of the live one

    @property
    def title(self) -> str:
        """The object's name in messages."""
        return title_of(self.kind, self.namespace, self.name)

    def __str__(self) -> str:
        """One line: the object, and how it differs."""
        if self.missing:
            return f"{self.title} is missing"
        if self.refusal:
            return f"{self.title} differs, and the API server refuses to change it: {self.refusal}"
        return f"{self.title} differs" + (f" in {', '.join(self.fields)}" if self.fields else "")


def title_of(kind: str, namespace: str, name: str) -> str:
    """An object's name in messages. Examples: `NetworkPolicy/postgres`, `Role/mlops-jobs/airflow`."""
    space = f"{namespace}/" if namespace not in ("", PLATFORM) else ""
    return f"{kind}/{space}{name}"


def read(manifest: str) -> list[Object]:
    """The objects of a manifest in YAML. kubectl parses it, because a bundle has only the standard library.

    It asks the API server for the kinds. `helm_release.objects` parses a manifest without a cluster, in a checkout.
    """
    if not manifest.strip():
        return []
    return _documents(kube("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", stdin=manifest))


def differences(wanted: Sequence[Object]) -> list[Difference]:
    """Every object that is missing in the cluster, or differs from it in a field that the object sets; by name.

    Raises:
        Failure: kubectl failed, for example because the user may not read the objects.
    """
    differing = _compare(wanted)
    # A controller may change an object between the read and the dry run, so only what differs twice counts.
    suspects = {(one.kind, one.namespace, one.name) for one in differing}
    again = [item for item in wanted if _key(item)[1:] in suspects]
    return sorted(_compare(again), key=lambda one: one.title)


def _compare(wanted: Sequence[Object]) -> list[Difference]:
    live = {_key(item): item for item in _live(wanted)}
    present = [item for item in wanted if _key(item) in live]
    applied = _applied(present)
    result = [Difference(*_key(item)[1:], missing=True) for item in wanted if _key(item) not in live]
    for item in present:
        key = _key(item)
        answer = applied[key]
        if isinstance(answer, str):
            result.append(Difference(*key[1:], refusal=answer))
        elif paths := differing_fields(live[key], answer):
            result.append(Difference(*key[1:], fields=tuple(paths)))
    return result


def differing_fields(live: Object, applied: Object) -> list[str]:
    """Paths in which a live object and the API server's answer to the dry run differ, without status and versions."""
    return list(_differing(_content(live), _content(applied), ""))


def _content(item: Object) -> Object:
    metadata = {name: value for name, value in item["metadata"].items() if name not in SERVER_FIELDS}
    return {name: value for name, value in item.items() if name != "status"} | {"metadata": metadata}


def _differing(live: object, applied: object, path: str) -> Iterator[str]:
    if isinstance(live, dict) and isinstance(applied, dict):
        for name in sorted(live.keys() | applied.keys()):
            plain = not set("./") & set(name)  # names of labels and of files contain dots
            inner = f"{path}.{name}" if plain else f"{path}[{name}]"
            yield from _differing(live.get(name), applied.get(name), inner.lstrip("."))
    elif (old := _by_name(live)) and (new := _by_name(applied)):
        for name in sorted(old.keys() | new.keys()):
            yield from _differing(old.get(name), new.get(name), f"{path}[{name}]")
    elif isinstance(live, list) and isinstance(applied, list) and len(live) == len(applied):
        for at, (one, other) in enumerate(zip(live, applied)):  # noqa: B905 - strict needs Python 3.10
            yield from _differing(one, other, f"{path}[{at}]")
    elif live != applied:
        yield path


def _by_name(items: object) -> dict[str, Object]:
    """The items of a list of Kubernetes, by name; {} if it is not a list of items with different names."""
    if not isinstance(items, list) or not all(isinstance(item, dict) and "name" in item for item in items):
        return {}
    named = {str(item["name"]): item for item in items}
    return named if len(named) == len(items) else {}


def _key(item: Object) -> Key:
    metadata = item["metadata"]
    return str(item["apiVersion"]), str(item["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])


def _live(wanted: Sequence[Object]) -> list[Object]:
    if not wanted:
        return []
    return _documents(kube("get", "--ignore-not-found", "-o", "json", "-f", "-", stdin=as_list(wanted)))


def _applied(wanted: Sequence[Object]) -> dict[Key, Object | str]:
    """The API server's answer to a dry run for each object: the object, or the reason why it refuses it.

    kubectl prints no answer if the API server refuses one of the objects, so the two halves are tried then.
    """
    if not wanted:
        return {}
    words = ["apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "--dry-run=server"]
    try:
        return {_key(item): item for item in _documents(kube(*words, "-o", "json", "-f", "-", stdin=as_list(wanted)))}
    except NoCluster:
        raise
    except Failure as refused:
        if FORBIDDEN in str(refused):
            raise
        if len(wanted) == 1:
            return {_key(wanted[0]): _short(str(refused).splitlines()[-1])}
    half = len(wanted) // 2
    return {**_applied(wanted[:half]), **_applied(wanted[half:])}


def _short(text: str, length: int = 300) -> str:
    """The text without its middle if it is long: it begins with the object, and the reason is at its end."""
    return text if len(text) <= length else f"{text[: length // 2]} ... {text[-length // 2 :]}"


def _documents(text: str) -> list[Object]:
    """Objects that kubectl prints: one, one after another, or as a list."""
    decoder, at, items = json.JSONDecoder(), 0, list[Object]()
    text = text.strip()
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        items += document["items"] if document["kind"] == "List" else [document]
        while text[at : at + 1].isspace():
            at += 1
    return items


def installed_manifest() -> str:
    """The manifest of Helm's release; "" if there is no release.

    Raises:
        Failure: helm is not installed, or failed.
    """
    try:
        return on_cluster(helm(), "get", "manifest", RELEASE, "-n", PLATFORM)
    except Failure as failed:
        if "release: not found" in str(failed):
            return ""
        raise


def _main() -> int:
    argparse.ArgumentParser(
        prog="python -m ci.deploy.drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    differing = differences(read(installed_manifest()))
    for one in differing:
        line(str(one))
    return 1 if differing else 0


if __name__ == "__main__":
    main(_main)
