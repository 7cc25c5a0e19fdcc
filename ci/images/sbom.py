"""SBOM of an image in CycloneDX format, read from the image itself."""

from __future__ import annotations

import json
import re
import uuid
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from backports.zstd import tarfile

from ci.images import archive, packages
from ci.images.archive import contents

GO = b"\xff Go buildinf:"
INLINE = 2  # flag: version and modules follow as strings, as every Go from 1.18 on writes them
HEADER = 32
SENTINEL = 16  # bytes around the text of the modules
OS_RELEASE = "usr/lib/os-release"
Component = tuple[str, str, str, str]  # kind of package URL, name, version, qualifiers


def components(image: Path) -> list[Component]:
    """Debian's packages, Python's distributions and Go's modules in an image's archive, sorted, each once.

    Debian packages have their release, and source packages with another name are listed too, because vulnerability
    databases use both names. A file that an upper layer replaces is read in both layers; a deleted file is listed.
    """
    parts: set[Component] = set()
    debian: set[tuple[str, str]] = set()
    sources: set[tuple[str, str]] = set()
    release = ""
    for member, content in archive.files(image):
        if member.name.startswith(packages.STATUS):
            status = content.read().decode()
            debian |= packages.parse(status).items()
            sources |= packages.sources(status).items()
        elif member.name == OS_RELEASE:
            version = re.search(r'^VERSION_ID="?(\d+)', content.read().decode(), re.MULTILINE)
            release = f"distro=debian-{version[1]}" if version else ""
        elif re.search(r"\.dist-info/METADATA$", member.name):
            headers = BytesHeaderParser().parsebytes(content.read())
            parts.add(("pypi", re.sub(r"[-_.]+", "-", headers["Name"]).lower(), headers["Version"], ""))
        elif member.mode & 0o111:
            parts |= set(_modules(member, content))
    parts |= {("deb/debian", *one, release) for one in debian}
    parts |= {("deb/debian", *one, f"arch=source&{release}".rstrip("&")) for one in sources - debian}
    return sorted(parts)


def _modules(member: tarfile.TarInfo, content: IO[bytes]) -> list[Component]:
    if member.size < HEADER or content.read(4) != b"\x7fELF":
        return []
    return modules(content.read())


def modules(program: bytes) -> list[Component]:
    """Go modules of a program, from its build information; empty if it is not a Go program.

    The module of the program itself has no version if it was built from a checkout. It is not listed then.
    """
    at = program.find(GO)
    if at < 0 or len(program) < at + HEADER or not program[at + 15] & INLINE:
        return []
    version, at = _string(program, at + HEADER)
    text, _ = _string(program, at)
    parts: list[Component] = [("golang", "stdlib", version.decode().removeprefix("go").partition(" ")[0], "")]
    for line in text[SENTINEL:-SENTINEL].decode(errors="replace").splitlines():
        words = line.split("\t")
        if words[0] == "=>":
            parts.pop()  # the line before is replaced by this one
        if words[0] in ("mod", "dep", "=>") and len(words) > 2 and words[2] != "(devel)":
            parts.append(("golang", words[1], words[2], ""))
    return parts


def _string(program: bytes, at: int) -> tuple[bytes, int]:
    """A string after its length (unsigned varint), and the position of its end."""
    length = shift = 0
    while True:
        byte = program[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return program[at : at + length], at + length


def document(image: Path, name: str, version: str, digest: str) -> dict[str, Any]:
    """A CycloneDX 1.6 document. It is reproducible for an image.

    The serial number is a hash of the content. CycloneDX does not require it, but GitHub's attestations do.
    """
    _, configuration = contents(image)
    labels = configuration.get("config", {}).get("Labels", {})
    licence = labels.get("org.opencontainers.image.licenses", "")
    hexadecimal = digest.removeprefix("sha256:")
    content = {
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": f"{name}@{digest}",
                "name": name,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": hexadecimal}],
                "purl": f"pkg:oci/{name}@{quote(digest, safe='')}?arch={configuration['architecture']}",
                **({"licenses": [{"expression": licence}]} if licence else {}),
            }
        },
        "components": [_component(*one) for one in components(image)],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": serial.urn, **content}


def describe(image: Path, name: str, version: str, digest: str) -> tuple[Path, Path]:
    """Write SBOM and checksum (for `sha256sum -c`) beside an archive, unless they exist and are newer."""
    document_file, checksum = image.with_suffix(".cdx.json"), image.with_suffix(".tar.sha256")
    if _older(document_file, image):
        _write(document_file, json.dumps(document(image, name, version, digest), indent=1) + "\n")
    if _older(checksum, image):
        _write(checksum, f"{archive.sha256(image)}  {image.name}\n")
    return document_file, checksum


def _older(file: Path, image: Path) -> bool:
    return not file.exists() or file.stat().st_mtime < image.stat().st_mtime


def _write(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.part")
    draft.write_text(text)
    draft.replace(file)


def _component(kind: str, name: str, version: str, qualifiers: str) -> dict[str, str]:
    purl = f"pkg:{kind}/{quote(name, safe='/')}@{quote(version, safe='')}" + (f"?{qualifiers}" if qualifiers else "")
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
