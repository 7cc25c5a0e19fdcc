"""Copy an environment's images to a registry, digests unchanged, and ask the registry for each of them.

python -m ci.bundle.push --registry registry.example/house --env vm

Needs skopeo, and its login (`skopeo login registry.example`). For existing images this
takes little time: only missing layers are uploaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ci.bundle.make import Part, parts
from ci.common.console import Failure, main, phase, run, say
from ci.common.environments import known_env
from ci.common.image_reference import parse
from ci.doctor import images as doctor
from ci.doctor import rendered
from ci.images import store, values


def command(part: Part, registry: str) -> list[str]:
    """Command that copies an archive; without TLS only to a registry on this machine."""
    plain = parse(target(part, registry)).url.startswith("http:")
    return [
        "skopeo", "copy", "--quiet", "--preserve-digests", *(["--dest-tls-verify=false"] if plain else []),
        f"oci-archive:{part.file}:{part.tag}", f"docker://{target(part, registry).partition('@')[0]}",
    ]  # fmt: skip


def target(part: Part, registry: str) -> str:
    """Reference of an image in a registry, with tag and digest."""
    name = part.repository.rpartition("/")[2]
    return f"{registry}/{name}:{part.tag}@{part.digest}"


def push(own: Sequence[Part], registry: str) -> None:
    """Copy images, and check them in the registry.

    Raises:
        Failure: skopeo failed, or the registry does not have an image. The text has a remedy.
    """
    for number, part in enumerate(own, 1):
        with phase(f"push {target(part, registry).partition('@')[0]} ({number} of {len(own)})"):
            run(command(part, registry))
            result = doctor.check(target(part, registry), set())
            if result.level != "ok":
                raise Failure(f"{result.what}: {result.fix}")


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.bundle.push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--registry", required=True, help="registry and path in front of the names")
    parser.add_argument(
        "--env", type=known_env, default="kind", help="environment whose images these are (default: %(default)s)"
    )
    options = parser.parse_args()
    registry = store.address(options.registry)
    named = values.read(options.env)
    if not named:
        raise Failure(f"{values.file(options.env)} is missing: `make images ENV={options.env}` writes it")
    own = parts(registry, named)
    push(own, registry)
    say(f"{registry} has all {len(own)} images; set global.imageRegistry to it in values/{options.env}.yaml")
    own_names = {image.partition(":")[0].rpartition("/")[2] for image in (part.reference for part in own)}
    for image in rendered.requirements(options.env).images:
        if parse(image).repository.rpartition("/")[2] not in own_names:
            name = parse(image)
            say(f"not built here: skopeo copy docker://{name.name}@{name.digest} docker://{registry}/"
                f"{name.repository.rpartition('/')[2]}:{name.tag}, and name it in the values")  # fmt: skip


if __name__ == "__main__":
    main(_main)
