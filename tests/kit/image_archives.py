"""Small images: OCI archives like those of a build, with files in their own layer."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

from ci.images import archive


def layer(files: Mapping[str, bytes]) -> bytes:
    """A compressed layer; names that end with `*` are executable."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as inner:
        for name, content in files.items():
            member = tarfile.TarInfo(name.removesuffix("*"))
            member.size, member.mode = len(content), 0o755 if name.endswith("*") else 0o644
            inner.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


SHARED = layer({"etc/os-release": b"ID=debian\n"})  # below every image, as the base is


def image(folder: Path, name: str, tag: str, files: Mapping[str, bytes], architecture: str = "amd64") -> str:
    """Write `<name>-<tag>.tar` and its note; returns the digest."""
    layout = folder / f".{name}"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}

    layers = [
        blob(SHARED, "layer.v1.tar+gzip"),
        blob(layer({f"srv/{name}": name.encode(), **files}), "layer.v1.tar+gzip"),
    ]
    labels = {"org.opencontainers.image.licenses": "Apache-2.0"}
    text = json.dumps({"architecture": architecture, "os": "linux", "config": {"Labels": labels},
                       "rootfs": {"type": "layers", "diff_ids": []}})  # fmt: skip
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(text.encode(), "config.v1+json"), "layers": layers}  # fmt: skip
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), "manifest.v1+json")]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text(archive.LAYOUT)
    file = folder / f"{name}-{tag}.tar"
    digest = archive.pack(layout, file, f"localhost/house-platform/{name}", tag)
    file.with_suffix(".json").write_text(json.dumps({"registry": "localhost/house-platform", "digest": digest}))
    archive.discard(layout)
    return digest
