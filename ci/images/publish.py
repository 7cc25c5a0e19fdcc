"""Publish the images of this checkout: build and push missing images, on a machine of each architecture.

    python -m ci.images.publish push --registry R     this machine's architecture, as R/<name>:<tag>-<architecture>
    python -m ci.images.publish join --registry R     R/<name>:<tag> for all architectures, after each was pushed
    python -m ci.images.publish sboms --registry R    write SBOMs of published images to build/sbom
    python -m ci.images.publish names --registry R    JSON: {image, name, digest} of images that --env does not use yet
    python -m ci.images.publish mirror --registry R --to M    copy to a second registry; digests stay the same

A tag is the hash of an image's inputs, so an existing tag is never built again and never moved. Needs skopeo and
buildah with a login (`skopeo login`). `python -m ci.deploy.release write --published` then uses the published images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import tempfile
from pathlib import Path

from ci.common.console import Failure, main, phase, run, say
from ci.common.environments import known_env
from ci.common.image_reference import parse
from ci.common.paths import CHECKOUT
from ci.images import builders, commits, sbom, store, values
from ci.images.catalog import IMAGES
from ci.images.store import Built
from ci.images.values import Entry

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ABSENT = ("manifest unknown", "name unknown", "not found", "404")


def tags(builder: builders.Builder) -> dict[str, str]:
    """The tag of every image of this checkout."""
    base = builder.prepare()
    return {name: store.tags(image, base)[0] for name, image in IMAGES.items()}


def digest(reference: str) -> str:
    """Digest of a reference in a registry; "" if the registry does not have it.

    Raises:
        Failure: the registry did not answer, or answered with an error.
    """
    words = ["skopeo", "inspect", "--raw", *_plain(reference, "--tls-verify=false"), f"docker://{reference}"]
    done = subprocess.run(words, capture_output=True, check=False)
    if not done.returncode:
        return f"sha256:{hashlib.sha256(done.stdout).hexdigest()}"
    message = done.stderr.decode(errors="replace")
    if any(text in message.lower() for text in ABSENT):
        return ""
    raise Failure(f"{reference}: {message.strip()}\nCheck that the registry is reachable, and log in (`skopeo login`).")


def _plain(reference: str, option: str) -> list[str]:
    """Option for a registry on this machine, which uses plain HTTP."""
    return [option] if parse(reference).url.startswith("http:") else []


def push(registry: str, wanted: dict[str, str], architecture: str) -> int:
    """Build and push images that the registry lacks for an architecture; returns their number."""
    pushed = 0
    for name, tag in wanted.items():
        whole = f"{registry}/{name}:{tag}"
        if digest(whole) or digest(f"{whole}-{architecture}"):
            say(f"{whole} is there")
            continue
        with phase(f"publish {whole}-{architecture}"):
            [built] = store.build(builders.choose(), [name], registry)
            run(copy(built, f"{whole}-{architecture}"))
        pushed += 1
    return pushed


def copy(built: Built, reference: str) -> list[str | Path]:
    """Command that copies an archive: an OCI archive of buildah, or a Docker archive."""
    form = f"oci-archive:{built.file}:{built.tag}" if built.digest else f"docker-archive:{built.file}"
    return ["skopeo", "copy", "--quiet", *_plain(reference, "--dest-tls-verify=false"), form, f"docker://{reference}"]


def join(registry: str, wanted: dict[str, str], architectures: list[str]) -> dict[str, str]:
    """Give the images of all architectures one name; returns the digest of every image by its name.

    Raises:
        Failure: an architecture is missing.
    """
    digests = {}
    for name, tag in wanted.items():
        whole = f"{registry}/{name}:{tag}"
        if not digest(whole):
            parts = [f"{whole}-{one}" for one in architectures]
            if lacking := [part for part in parts if not digest(part)]:
                raise Failure(
                    f"the registry lacks {', '.join(lacking)}: `publish push` on a machine of that architecture"
                )
            with phase(f"join {whole}"), tempfile.TemporaryDirectory() as folder:
                _join(parts, whole, Path(folder))
        digests[name] = digest(whole)
    return digests


def _join(parts: list[str], whole: str, scratch: Path) -> None:
    words: list[str | Path] = [
        "buildah",
        "--root",
        scratch / "root",
        "--runroot",
        scratch / "run",
        "--storage-driver",
        "vfs",
        "manifest",
    ]
    insecure = _plain(whole, "--tls-verify=false")
    run([*words, "create", "joined"])
    for part in parts:
        run([*words, "add", *insecure, "joined", f"docker://{part}"])
    run([*words, "push", "--all", "--quiet", *insecure, "--format", "oci", "joined", f"docker://{whole}"])


def published(registry: str, wanted: dict[str, str]) -> dict[str, Entry]:
    """Entries of the published images, for an environment.

    Raises:
        Failure: an image is not published.
    """
    digests = {name: digest(f"{registry}/{name}:{tag}") for name, tag in wanted.items()}
    if lacking := sorted(name for name, one in digests.items() if not one):
        raise Failure(f"{registry} lacks {', '.join(lacking)} of this checkout: publish them first (make publish)")
    return {
        name: Entry(wanted[name], one, commits.commit_of(IMAGES[name])) for name, one in digests.items()
    }  # fmt: skip


def sboms(registry: str, images: dict[str, Entry], architectures: list[str], folder: Path) -> list[Path]:
    """Write an SBOM for every published image and architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, entry in images.items():
        for architecture in architectures:
            reference = f"{registry}/{name}@{entry.digest}"
            with phase(f"SBOM of {name} for {architecture}"), tempfile.TemporaryDirectory(dir=folder) as scratch:
                file = Path(scratch) / "image.tar"
                insecure = _plain(reference, "--src-tls-verify=false")
                run(["skopeo", "--override-os", "linux", "--override-arch", architecture, "copy", "--quiet", *insecure,
                     f"docker://{reference}", f"oci-archive:{file}:{entry.tag}"])  # fmt: skip
                written.append(folder / f"{name}-{architecture}.cdx.json")
                text = json.dumps(sbom.document(file, name, entry.tag, entry.digest), indent=1)
            written[-1].write_text(f"{text}\n")
    return written


def mirror(registry: str, wanted: dict[str, str], second: str) -> None:
    """Copy published images of all architectures to a second registry, and compare each digest.

    Raises:
        Failure: an image is not published, skopeo failed, or the second registry then has another digest.
    """
    for name, entry in published(registry, wanted).items():
        source, target = f"{registry}/{name}@{entry.digest}", f"{second}/{name}:{entry.tag}"
        with phase(f"copy {target}"):
            plain = [*_plain(source, "--src-tls-verify=false"), *_plain(target, "--dest-tls-verify=false")]
            words = ["skopeo", "copy", "--quiet", "--all", "--preserve-digests", *plain]
            run([*words, f"docker://{source}", f"docker://{target}"])
            if (actual := digest(target)) != entry.digest:
                raise Failure(f"{target} has {actual or 'nothing'}, not {entry.digest}: {second} may change images")


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.images.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["push", "join", "sboms", "names", "mirror"])
    parser.add_argument("--registry", required=True, help="registry and path in front of the names")
    parser.add_argument("--architectures", nargs="+", default=[*ARCHITECTURES.values()], metavar="NAME",
                        help="of the images (default: amd64 arm64)")  # fmt: skip
    parser.add_argument("--env", type=known_env, default="vm", help="names: environment (default: %(default)s)")
    parser.add_argument("--to", default="", metavar="REGISTRY", help="mirror: the second registry, with a path")
    options = parser.parse_args()
    registry = store.address(options.registry)
    second = store.address(options.to) if options.action == "mirror" else ""
    wanted = tags(builders.choose())
    if options.action == "push":
        number = push(registry, wanted, ARCHITECTURES[platform.machine()])
        say(f"pushed {number} of {len(wanted)} images; the registry had the others")
    elif options.action == "join":
        for name, joined in join(registry, wanted, options.architectures).items():
            say(f"{registry}/{name}:{wanted[name]}@{joined}")
    elif options.action == "sboms":
        made = sboms(registry, published(registry, wanted), options.architectures, CHECKOUT / "build" / "sbom")
        say(f"wrote {len(made)} SBOMs to build/sbom")
    elif options.action == "mirror":
        mirror(registry, wanted, second)
        say(f"{second} has all {len(wanted)} images of {registry}")
    else:
        used = {entry.digest for entry in values.read(options.env).values()}
        new = {name: entry for name, entry in published(registry, wanted).items() if entry.digest not in used}
        print(json.dumps([{"image": name, "name": f"{registry}/{name}", "digest": entry.digest}
                          for name, entry in new.items()]))  # fmt: skip


if __name__ == "__main__":
    main(_main)
