"""The SBOM of an image."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

from ci.images import sbom
from tests.kit.image_archives import image

STATUS = b"""Package: bash
Status: install ok installed
Version: 5.2.37-2

Package: libc6
Status: install ok installed
Source: glibc
Version: 2.41-12+deb13u5

Package: libcom-err2
Status: install ok installed
Source: e2fsprogs (1.47.2-3)
Version: 1.47.2-3+b12

Package: gone
Status: deinstall ok config-files
Version: 1
"""
METADATA = b"Metadata-Version: 2.4\nName: Typing_Extensions\nVersion: 4.15.0\n\ntext\nName: not a header\n"
MODULES = (
    "path\texample.org/cmd\nmod\texample.org/cmd\tv1.2.3\t\n"
    "dep\tgithub.com/a/b\tv1.0.0\th1:x=\ndep\tgithub.com/old\tv0.1.0\n=>\tgithub.com/new\tv0.2.0\th1:y=\nbuild\t-trimpath=true\n"
)


def go_program(text: str) -> bytes:
    """As Go's linker writes versions into a program: a header of 32 bytes, two strings behind their length."""

    def string(content: bytes) -> bytes:
        length, head = len(content), b""
        while length >= 0x80:
            head, length = head + bytes([length & 0x7F | 0x80]), length >> 7
        return head + bytes([length]) + content

    header = sbom.GO + bytes([8, sbom.INLINE]) + bytes(16)
    return b"\x7fELF" + bytes(124) + header + string(b"go1.27.3 X:a") + string(b"0" * 16 + text.encode() + b"1" * 16)


RELEASE = b'NAME="Debian GNU/Linux"\nVERSION_ID="13"\nDEBIAN_VERSION_FULL=13.8\n'
FOUND = [
    ("deb/debian", "bash", "5.2.37-2", "distro=debian-13"),
    ("deb/debian", "e2fsprogs", "1.47.2-3", "arch=source&distro=debian-13"),
    ("deb/debian", "glibc", "2.41-12+deb13u5", "arch=source&distro=debian-13"),
    ("deb/debian", "libc6", "2.41-12+deb13u5", "distro=debian-13"),
    ("deb/debian", "libcom-err2", "1.47.2-3+b12", "distro=debian-13"),
    ("golang", "example.org/cmd", "v1.2.3", ""),
    ("golang", "github.com/a/b", "v1.0.0", ""),
    ("golang", "github.com/new", "v0.2.0", ""),
    ("golang", "stdlib", "1.27.3", ""),
    ("pypi", "typing-extensions", "4.15.0", ""),
]


def test_program_of_a_checkout_is_not_listed_as_a_module() -> None:
    program = go_program("path\tours/cmd\nmod\tours\t(devel)\t\ndep\tgithub.com/a/b\tv1.0.0\th1:x=\n")
    assert [name for _, name, _, _ in sbom.modules(program)] == ["stdlib", "github.com/a/b"]


def test_debian_python_and_go_are_read_from_the_image(tmp_path: Path) -> None:
    files = {
        "var/lib/dpkg/status": STATUS,
        "usr/lib/os-release": RELEASE,
        "opt/venv/lib/python3.13/site-packages/typing_extensions-4.15.0.dist-info/METADATA": METADATA,
        "usr/bin/server*": go_program(MODULES),
        "usr/bin/other*": b"\x7fELF" + bytes(200),
        "usr/bin/script*": b"#!/bin/sh\n",
    }
    digest = image(tmp_path, "ui", "1", files)
    document = sbom.document(tmp_path / "ui-1.tar", "ui", "1", digest)
    assert [(one["name"], one["version"]) for one in document["components"]] == [row[1:3] for row in FOUND]
    assert sbom.components(tmp_path / "ui-1.tar") == FOUND
    purls = [one["purl"] for one in document["components"]]
    assert purls[2] == "pkg:deb/debian/glibc@2.41-12%2Bdeb13u5?arch=source&distro=debian-13"
    assert purls[3] == "pkg:deb/debian/libc6@2.41-12%2Bdeb13u5?distro=debian-13"
    assert "pkg:golang/github.com/new@v0.2.0" in purls
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    component = document["metadata"]["component"]
    assert component["purl"] == f"pkg:oci/ui@sha256%3A{digest.removeprefix('sha256:')}?arch=amd64"
    assert component["licenses"] == [{"expression": "Apache-2.0"}]
    assert json.dumps(document) == json.dumps(sbom.document(tmp_path / "ui-1.tar", "ui", "1", digest))


def test_every_bill_has_a_serial_number_of_its_own(tmp_path: Path) -> None:
    """GitHub's attestation takes a file without one as no SBOM at all."""

    def serial(architecture: str) -> str:
        folder = tmp_path / architecture
        folder.mkdir(exist_ok=True)
        image(folder, "ui", "1", {}, architecture)
        return str(sbom.document(folder / "ui-1.tar", "ui", "1", f"sha256:{'a' * 64}")["serialNumber"])

    first, other = serial("amd64"), serial("arm64")
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first)
    assert first != other, "the SBOMs of two architectures, whose image has one digest"
    assert serial("amd64") == first


def test_sbom_and_checksum_lie_beside_the_archive_and_follow_it(tmp_path: Path) -> None:
    archive = tmp_path / "ui-1.tar"
    for content in (b"one", b"other"):
        digest = image(tmp_path, "ui", "1", {"srv/content": content})
        os.utime(archive, (archive.stat().st_atime, time.time() + 1))  # newer than what describes the one before
        document, checksum = sbom.describe(archive, "ui", "1", digest)
        assert json.loads(document.read_text()) == sbom.document(archive, "ui", "1", digest)
        subprocess.run(["sha256sum", "--check", "--status", checksum.name], cwd=tmp_path, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "ui-1.tar", "ui-1.json", "ui-1.cdx.json", "ui-1.tar.sha256",
    }  # fmt: skip


def test_sbom_is_valid_by_the_schema_of_cyclonedx(tmp_path: Path) -> None:
    # Imported here, because it takes about three seconds and every pytest worker imports this file
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    files = {"var/lib/dpkg/status": STATUS, "usr/bin/server*": go_program(MODULES)}
    document = sbom.document(tmp_path / "ui-1.tar", "ui", "1", image(tmp_path, "ui", "1", files))
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(document)) is None
    document["components"][0]["type"] = "parcel"
    assert validator.validate_str(json.dumps(document)) is not None, "the schema is not looked at"


def test_a_program_that_ends_in_its_header_is_no_error() -> None:
    assert sbom.modules(b"\x7fELF" + sbom.GO) == []
