"""A release is a commit that changes values/images-<env>.yaml; Argo CD rolls out what it names.

python -m ci.release write --env vm               the images of this checkout; a tag of before keeps its entry
python -m ci.release write --env vm --published   the same, built by CI: digests are those of the registry
python -m ci.release promote --from vm --to prod  exactly the images that another environment names

Both show what changes, and with `--commit` make the commit that says so. To go back, revert it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from ci.console import Failure, main, say
from ci.environments import known_env
from ci.git import git
from ci.images import __main__ as images
from ci.images import builders, commits, publish, store, values
from ci.images.values import Entry
from ci.paths import CHECKOUT

NONE = "(none)"


@dataclass(frozen=True)
class Change:
    """An image that an environment gets, changes or loses."""

    name: str
    before: Entry | None
    after: Entry | None

    @property
    def tags(self) -> str:
        """Old and new tag."""
        old, new = (one.tag if one else NONE for one in (self.before, self.after))
        return f"{old} -> {new}" + (" (other digest or commit)" if old == new else "")

    @property
    def commits(self) -> str:
        """Range of the commits between, as `git log` takes it; one commit, where there are not two."""
        known = [one.commit or commits.UNKNOWN for one in (self.before, self.after) if one]
        return "..".join(dict.fromkeys(short(commit) for commit in known))


def short(commit: str) -> str:
    """A commit as people write it, still with `-dirty`."""
    return re.sub(r"^([0-9a-f]{12})[0-9a-f]+", r"\1", commit)


def differences(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[Change]:
    """Every image that is not as before, by its name."""
    names = sorted({*before, *after})
    return [Change(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def table(changes: list[Change]) -> str:
    """Changes as people read them."""
    rows = [("image", "tag", "commits"), *((one.name, one.tags, one.commits) for one in changes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def registry(env: str, checkout: Path = CHECKOUT) -> str:
    """Registry and path from which an environment pulls its images.

    Raises:
        Failure: there is no such environment.
    """
    known_env(env, checkout)
    default, own = (
        yaml.safe_load((checkout / path).read_text()) or {}
        for path in ("charts/platform/values.yaml", f"values/{env}.yaml")
    )
    return str(own.get("global", {}).get("imageRegistry") or default["global"]["imageRegistry"])


def is_local(address: str) -> bool:
    """Whether images are put into the cluster by hand and not pulled: the registry is this machine in name only."""
    return address.partition("/")[0] == "localhost"


def check(released: Mapping[str, Entry], name: str, address: str) -> None:
    """Refuse images that a cluster could not pull by digest, or that no commit has.

    Raises:
        Failure: names every such image.
    """
    if is_local(address):
        return
    if lacking := sorted(image for image, entry in released.items() if not entry.digest):
        raise Failure(
            f"{name}: no digest for {', '.join(lacking)}, and {address} is a registry: "
            "publish the images first and tell `write` their digests with --digest NAME=sha256:..."
        )
    if dirty := sorted(image for image, entry in released.items() if entry.commit.endswith(commits.DIRTY)):
        raise Failure(f"{name}: {', '.join(dirty)} are of sources that no commit has: commit them, and build again")
    if lost := sorted(image for image, entry in released.items() if not commits.traceable(entry.commit)):
        say(f"{name}: the commit of {', '.join(lost)} is not known, so what runs will not tell it")


def built(
    env: str, digests: Mapping[str, str], checkout: Path = CHECKOUT, from_registry: bool = False
) -> dict[str, Entry]:
    """The images of the checkout, built if they are not yet or found in its registry, fit for an environment.

    Raises:
        Failure: the environment is not known, a build failed, an image is not published, or the environment could not
            run what was built.
    """
    address, before = registry(env, checkout), values.read(env, checkout)
    if from_registry:
        if is_local(address):
            raise Failure(f"{env} runs images of this machine ({address}), and none is published: ENV=vm, or prod")
        made = publish.published(address, publish.tags(builders.choose()))
    else:
        made = store.entries(images.build([], images.REGISTRY))
    found = built_for(before, made, digests)
    check(found, f"images of {env}", address)
    return found


def built_for(before: Mapping[str, Entry], found: Mapping[str, Entry], digests: Mapping[str, str]) -> dict[str, Entry]:
    """What an environment names after a build, with the digests under which a registry holds new images.

    A tag that it names already is published: its digest stays, even if a build from the same inputs has another.
    """
    if unknown := sorted(set(digests) - set(found)):
        raise Failure(f"--digest: there is no image {', '.join(unknown)}; there are {', '.join(sorted(found))}")
    now = {name: replace(entry, digest=digests.get(name, entry.digest)) for name, entry in found.items()}
    for name, entry in before.items():
        if entry.digest and name in now and now[name].tag == entry.tag:
            now[name] = replace(now[name], digest=entry.digest)
    return values.kept(before, now)


def promoted(source: str, target: str, checkout: Path = CHECKOUT) -> dict[str, Entry]:
    """The images of one environment, fit for another.

    Raises:
        Failure: an environment is not known, they are one, their registries differ, or the source has no images that
            the target could run.
    """
    addresses = {env: registry(env, checkout) for env in (source, target)}
    if source == target:
        raise Failure(f"{source} is both where images come from and where they go")
    if addresses[source] != addresses[target]:
        raise Failure(
            f"{source} pulls from {addresses[source]}, {target} from {addresses[target]}: "
            "an image is promoted within one registry (global.imageRegistry in values/<env>.yaml)"
        )
    name = f"values/images-{source}.yaml"
    found = values.read(source, checkout)
    if not found:
        raise Failure(f"{name} is missing or names no image: release to {source} first (`python -m ci.release write`)")
    check(found, name, addresses[source])
    return found


def release(env: str, after: Mapping[str, Entry], why: str, commit: bool, checkout: Path = CHECKOUT) -> list[Change]:
    """Write an environment's images, show what changed, and commit it if told to; returns the changes.

    They are counted from the file; for a commit, from what Git's HEAD has, so that an earlier `--commit` that failed,
    or was forgotten, is made up for.
    """
    path = values.file(env, checkout)
    name = f"values/{path.name}"
    before = _committed(name, checkout) if commit else values.read(env, checkout)
    changes = differences(before, after)
    if not path.exists() or path.read_text() != values.render(after):
        values.write(env, after, checkout)
    if not changes:
        say(f"nothing changed: {name} names these {len(after)} images already")
        return []
    print(table(changes), flush=True)
    say(f"{name}: {len(changes)} of {len(after)} images changed")
    if commit:
        git(checkout, "add", "--", name)
        git(checkout, "commit", "--quiet", "-m", message(env, changes, why), "--", name)
        say(f"committed as {git(checkout, 'log', '-1', '--format=%h %s')}")
    return changes


def message(env: str, changes: list[Change], why: str) -> str:
    """Text of a release's commit."""
    names = ", ".join(one.name for one in changes) if len(changes) <= 3 else f"{len(changes)} images"
    lines = [f"{one.name}: {one.tags}, {one.commits}" for one in changes]
    return "\n".join([f"release: {names} to {env}", "", why, "", *lines])


def _committed(name: str, checkout: Path) -> dict[str, Entry]:
    text = git(checkout, "show", f"HEAD:{name}", check=False)
    return values.parse(text, f"HEAD:{name}") if text else {}


def _digest(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"([a-z]+)=(sha256:[0-9a-f]{64})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=sha256:<64 hex digits>")
    return found[1], found[2]


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    write = actions.add_parser("write", help="the images of this checkout, built if they are not yet")
    write.add_argument("--env", type=known_env, required=True, help="environment")
    write.add_argument(
        "--digest", action="append", default=[], type=_digest, metavar="NAME=DIGEST",
        help="of a new image in the registry, where the build does not tell it (Docker)",
    )  # fmt: skip
    write.add_argument("--published", action="store_true", help="build nothing: ask the environment's registry")
    promote = actions.add_parser("promote", help="exactly the images that another environment names")
    promote.add_argument("--from", dest="source", type=known_env, required=True, metavar="ENV")
    promote.add_argument("--to", dest="target", type=known_env, required=True, metavar="ENV")
    for action in (write, promote):
        action.add_argument("--commit", action="store_true", help="commit the file, and nothing else")
    options = parser.parse_args()
    if options.action == "promote":
        found = promoted(options.source, options.target)
        release(options.target, found, f"The images of {options.source}.", options.commit)
        return
    release(
        options.env,
        built(options.env, dict(options.digest), from_registry=options.published),
        "The images of the commit before.",
        options.commit,
    )


if __name__ == "__main__":
    main(_main)
