"""Checks that each image is on the node by tag and digest or in its registry; else gives the cause."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Set
from email.message import Message
from http.client import HTTPException
from pathlib import Path

from ci.common.image_reference import HUB, Reference, parse
from ci.doctor.network import explain
from ci.doctor.requirements import Requirements
from ci.doctor.result import Result, fail, ok, skip

MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


def all_present(needs: Requirements, present: Set[str]) -> bool:
    """Whether every image is on the node."""
    return bool(needs.images) and all(parse(text).identity in present for text in needs.images)


def check(text: str, present: Set[str], timeout: float = 10) -> Result:
    """Check that an image is on a node or in its registry."""
    image = parse(text)
    title = f"image {image.repository.rpartition('/')[2]}"
    by_tag = f"{image.name}:{image.tag}"
    if image.identity in present:
        return ok(title, f"{image.tag} is on the node")
    if image.registry == "localhost":
        if by_tag in present:
            return fail(
                title,
                f"{by_tag} is on the node with another digest than {image.digest}",
                "import the archive again: `python -m ci.images load`, or ./install.sh of the bundle",
            )
        return fail(
            title,
            f"{by_tag} is not on the node, and no registry has it (localhost: images are imported by hand)",
            "python -m ci.images load, or ./install.sh of the bundle",
        )
    return _ask(title, image, timeout)


def every(needs: Requirements, present: Set[str], timeout: float = 10) -> list[Result]:
    """Check every image. An unreachable registry gets one request only."""
    if needs.images_missing:
        return [
            fail(
                "images",
                f"{needs.images_missing} is missing: nothing names the images of {needs.env}",
                f"make images ENV={needs.env}, or python -m ci.deploy.release write --env {needs.env}",
            )
        ]
    results: list[Result] = []
    dead: dict[str, str] = {}
    for text in needs.images:
        image = parse(text)
        if image.registry in dead and image.identity not in present:
            results.append(fail(f"image {image.repository.rpartition('/')[2]}", "likewise", dead[image.registry]))
            continue
        result = check(text, present, timeout)
        if result.level == "fail" and UNREACHABLE in result.what:
            dead[image.registry] = result.fix
        results.append(result)
    return results or [skip("images", "the environment has none")]


UNREACHABLE = "is not on the node, and its registry cannot be reached: "


def _ask(title: str, image: Reference, timeout: float) -> Result:
    host, _, port = image.registry.partition(":")
    number = int(port or (80 if image.url.startswith("http:") else 443))
    absent = f"{image.name}:{image.tag} is not on the node, and"
    try:
        headers = _head(image, timeout)
    except urllib.error.HTTPError as wrong:
        return _refused(title, image, wrong, absent)
    except (OSError, HTTPException) as away:
        why, fix = explain(away, host, number)
        return fail(title, f"{image.name}:{image.tag} {UNREACHABLE}{why}", fix)
    digest = headers.get("Docker-Content-Digest", "")
    if not digest:
        return fail(
            title,
            f"{absent} {image.registry} answers, but not as a registry: a proxy or a login page in between",
            f"curl -sI {image.url} shows who answers; ask for an exception for {host}, or use the bundle",
        )
    if image.digest and digest != image.digest:
        return fail(title, f"{absent} its registry has {digest} under that name, not {image.digest}",
                    "publish the image again: `make push REGISTRY=...`, and name its digest")  # fmt: skip
    return ok(title, f"{image.tag} can be pulled from {image.registry}")


def _refused(title: str, image: Reference, wrong: urllib.error.HTTPError, absent: str) -> Result:
    registry = image.registry
    if wrong.code in (401, 403):
        return fail(
            title,
            f"{absent} {registry} asks for credentials ({wrong.code}): none were given, or they may not read it",
            f"name user and password for {registry} in /etc/rancher/k3s/registries.yaml (configs: auth:) and restart "
            "K3s; or make the package public",
        )
    if wrong.code == 404:
        return fail(title, f"{absent} {registry} does not have it (404)",
                    f"publish it: make push REGISTRY={image.name.rpartition('/')[0]}, or use the bundle")  # fmt: skip
    if wrong.code == 429:
        later = wrong.headers.get("Retry-After", "")
        return fail(
            title,
            f"{absent} {registry} limits the rate of pulls (429{f', again in {later} s' if later else ''})",
            "log in (registries.yaml), use a mirror (global.imageRegistry), use the bundle, or wait",
        )
    return fail(title, f"{absent} {registry} answers {wrong.code}", "wait and try again; or use the bundle")


def _head(image: Reference, timeout: float) -> Message:
    """Headers of the manifest. Gets a token first if the registry names a token server.

    Raises:
        OSError: there is no answer, or (urllib.error.HTTPError) its status is not 200.
    """
    credentials = _credentials(image.registry)
    try:
        return _open(image.url, f"Basic {credentials}" if credentials else "", timeout, method="HEAD")[0]
    except urllib.error.HTTPError as wrong:
        challenge = re.match(r"Bearer (.*)", wrong.headers.get("WWW-Authenticate", ""), re.IGNORECASE)
        if wrong.code != 401 or not challenge:
            raise
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge[1]))
    query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
    _, body = _open(f"{fields.get('realm', '')}?{query}", f"Basic {credentials}" if credentials else "", timeout)
    answer = json.loads(body)
    return _open(image.url, f"Bearer {answer.get('token') or answer.get('access_token')}", timeout, method="HEAD")[0]


def _open(url: str, authorization: str, timeout: float, method: str = "GET") -> tuple[Message, bytes]:
    if not url.startswith(("https://", "http://")):
        raise OSError(f"{url} is not the address of a token server")
    headers = {"Accept": MANIFESTS if method == "HEAD" else "application/json"}
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - checked above
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        return answer.headers, answer.read()


def _credentials(registry: str) -> str:
    """Credentials of `docker login` (or `skopeo login --authfile`) for a registry; "" if there are none."""
    folder = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker"))
    try:
        auths = json.loads((folder / "config.json").read_text()).get("auths", {})
    except (OSError, ValueError):
        return ""
    names = (registry, "https://index.docker.io/v1/") if registry == HUB else (registry,)
    return str(next((auths[name].get("auth", "") for name in names if name in auths), ""))
