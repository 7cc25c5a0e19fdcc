"""The layers of the newest images contain nothing of the machine that built them."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from ci.common.console import run, wait_for
from ci.common.paths import CHECKOUT, cache_dir
from ci.images import archive
from ci.images.catalog import IMAGES, PROMETHEUS_UI
from ci.local.processes import free_port

from .programs import built, program

pytestmark = pytest.mark.e2e


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> Path:
    return built(request.param)


@cache
def machine() -> list[bytes]:
    """Paths of this machine: checkout, cache and Go modules."""
    modules = run(["go", "env", "GOMODCACHE"]).stdout.strip()
    return [text.encode() for text in (f"{CHECKOUT}/", f"{cache_dir()}/", f"{modules}/")]


def test_labels_and_user(image: Path) -> None:
    name = next(name for name in IMAGES if image.stem.startswith(f"{name}-"))
    tag = image.stem.removeprefix(f"{name}-")
    settings: dict[str, Any] = archive.contents(image)[1]["config"]
    labels = {key.rpartition(".")[2]: text for key, text in settings["Labels"].items() if "opencontainers" in key}
    expected = IMAGES[name]
    assert labels == {"title": expected.title, "version": tag, "source": expected.source, "licenses": expected.licenses}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", settings["User"]), f"{name} runs as {settings['User']!r}"


def test_no_layer_and_no_history_names_the_machine(image: Path) -> None:
    assert not [text for text in machine() if text in repr(archive.contents(image)).encode()]
    leaks = []
    for member, content in archive.files(image):
        data = content.read()
        leaks += [f"{member.name} has {text.decode()}" for text in machine() if text in data]
    assert not leaks, f"{image.name}: {'; '.join(leaks)}"


def test_no_layer_has_sources_of_apt_npm_configuration_or_a_foreign_authority(image: Path) -> None:
    allowed: set[str] = set()  # certificates of Debian's package
    bundled: set[str] = set()
    for member, content in archive.files(image):
        path = PurePosixPath("/", member.name)
        assert not re.match(r"/etc/apt/sources|/usr/local/share/ca-certificates/", str(path)), path
        assert path.name not in {".npmrc", "npmrc", "pip.conf", ".netrc"}, path
        if path.is_relative_to("/run") or path.is_relative_to("/var/lib/apt/lists"):
            assert member.size == 0, f"{path} is of the build, and its content stayed"
        if path.is_relative_to("/usr/share/ca-certificates"):
            allowed |= certificates(content.read())
        elif path.is_relative_to("/etc/ssl/certs"):
            bundled |= certificates(content.read())
    assert bundled <= allowed, f"{len(bundled - allowed)} certificates of {image.name} are not Debian's"


def certificates(data: bytes) -> set[str]:
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.+?)-----END", data.decode(errors="replace"), re.DOTALL)
    return {"".join(text.split()) for text in blocks}


def test_bytecode_never_asks_for_the_time_of_its_source(image: Path) -> None:
    for member, content in archive.files(image):
        path = PurePosixPath("/", member.name)
        if path.suffix == ".pyc":
            assert path.parent.name == "__pycache__", f"{path} would be imported instead of a source"
            assert content.read(8)[4] & 1, f"{path} is compared with its source's time, which is the build's"
            assert not path.is_relative_to("/opt/house"), f"{path} comes from a test run on the build machine"


def test_prometheus_has_its_pages_or_one_that_says_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    port = free_port()
    words = [
        str(program("prometheus", tmp_path)),
        "--config.file=empty.yaml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log) as running:
        try:
            wait_for("Prometheus", lambda: "ready to receive" in (tmp_path / "log").read_text(), 30)
            assert "prometheus_build_info" in get(f"http://127.0.0.1:{port}/metrics")
            for path in ("", "query", "graph", "alerts"):
                page = get(f"http://127.0.0.1:{port}/{path}")
                if not PROMETHEUS_UI:
                    assert "make images HOUSE_PROMETHEUS_UI=1" in page, f"/{path} says something else: {page[:200]}"
                    for link in re.findall(r'href="([^"]+)"', page):
                        assert get(f"http://127.0.0.1:{port}/{link}")
                    continue
                assert '<div id="root">' in page, f"/{path} is not a page: {page[:200]}"
                (script,) = re.findall(r'<script type="module"[^>]* src="./(assets/[^"]+)"', page)
                assert "createElement" in get(f"http://127.0.0.1:{port}/{script}")
        finally:
            running.terminate()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())
