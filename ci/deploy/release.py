"""Release images to an environment: a commit that changes values/images-<env>.yaml. Argo CD rolls it out.

python -m ci.deploy.release write --env vm               the images of this checkout; unchanged tags keep their entry
python -m ci.deploy.release write --env vm --published   the same, built by CI: digests come from the registry
python -m ci.deploy.release promote --from vm --to prod  the images of another environment

Both print the changes, and commit them with `--commit`. Revert the commit to go back.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from ci.common.console import Failure, main, say
from ci.common.environments import known_env
from ci.common.git import git
from ci.common.paths import CHECKOUT
from ci.images import actions, builders, commits, publish, store, values
from ci.images.catalog import REGISTRY
from ci.images.values import Entry

NONE = "(none)"


@dataclass(frozen=True)
class Change:
    """An image that is added, changed or removed in an environment."""

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
        """Range of commits for `git log`; one commit if there is only one."""
        ends = [one.commit or commits.UNKNOWN for one in (self.before, self.after) if one]
        return "..".join(dict.fromkeys(short(commit) for commit in ends))


def short(commit: str) -> str:
    """First 12 digits of a commit, with its suffix `-dirty` if it has one."""
    return re.sub(r"^([0-9a-f]{12})[0-9a-f]+", r"\1", commit)


def differences(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[Change]:
    """Changed images, sorted by name."""
    names = sorted({*before, *after})
    return [Change(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def table(changes: list[Change]) -> str:
    """Changes as a text table."""
    rows = [("image", "tag", "commits"), *((one.name, one.tags, one.commits) for one in changes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def registry(env: str, checkout: Path = CHECKOUT) -> str:
    """Registry and path of an environment's images.

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
    """Whether the address stands for images that are imported into the cluster, not pulled from a registry."""
    return address.partition("/")[0] == "localhost"


def check(released: Mapping[str, Entry], name: str, address: str) -> None:
    """Refuse images without a digest, and images of uncommitted sources.

    Raises:
        Failure: there are such images. The text names all of them.
    """
    if is_local(address):
        return
    if lacking := sorted(image for image, entry in released.items() if not entry.digest):
        raise Failure(
            f"{name}: no digest for {', '.join(lacking)}, and {address} is a registry: "
            "publish the images first, and pass their digests with --digest NAME=sha256:..."
        )
    if dirty := sorted(image for image, entry in released.items() if entry.commit.endswith(commits.DIRTY)):
        raise Failure(f"{name}: {', '.join(dirty)} were built from uncommitted sources: commit them and build again")
    if lost := sorted(image for image, entry in released.items() if not commits.traceable(entry.commit)):
        say(f"{name}: the commit of {', '.join(lost)} is unknown, so running pods will not show it")


def built(
    env: str, digests: Mapping[str, str], checkout: Path = CHECKOUT, from_registry: bool = False
) -> dict[str, Entry]:
    """The images of the checkout for an environment: built if necessary, or taken from the registry.

    Raises:
        Failure: the environment does not exist, a build failed, an image is not published, or the environment cannot
            use the images.
    """
    address, before = registry(env, checkout), values.read(env, checkout)
    if from_registry:
        if is_local(address):
            raise Failure(f"{env} runs images of this machine ({address}), which are not published: use ENV=vm or prod")
        made = publish.published(address, publish.tags(builders.choose()))
    else:
        made = store.entries(actions.build([], REGISTRY))
    entries = built_for(before, made, digests)
    check(entries, f"images of {env}", address)
    return entries


def built_for(before: Mapping[str, Entry], made: Mapping[str, Entry], digests: Mapping[str, str]) -> dict[str, Entry]:
    """Entries of an environment after a build, with the registry's digests of new images.

    An existing tag is published already. It keeps its digest, even if a build from the same inputs has another one.
    """
    if unknown := sorted(set(digests) - set(made)):
        raise Failure(f"--digest: unknown image {', '.join(unknown)}; the names are {', '.join(sorted(made))}")
    now = {name: replace(entry, digest=digests.get(name, entry.digest)) for name, entry in made.items()}
    for name, entry in before.items():
        if entry.digest and name in now and now[name].tag == entry.tag:
            now[name] = replace(now[name], digest=entry.digest)
    return values.kept(before, now)


def promoted(source: str, target: str, checkout: Path = CHECKOUT) -> dict[str, Entry]:
    """The images of one environment, for another.

    Raises:
        Failure: an environment does not exist, both are the same, their registries differ, or the target cannot use
            the images of the source.
    """
    addresses = {env: registry(env, checkout) for env in (source, target)}
    if source == target:
        raise Failure(f"{source} is both source and target: name two environments")
    if addresses[source] != addresses[target]:
        raise Failure(
            f"{source} pulls from {addresses[source]}, {target} from {addresses[target]}: "
            "an image is promoted within one registry (global.imageRegistry in values/<env>.yaml)"
        )
    name = f"values/images-{source}.yaml"
    entries = values.read(source, checkout)
    if not entries:
        raise Failure(
            f"{name} is missing or names no image: release to {source} first (`python -m ci.deploy.release write`)"
        )
    check(entries, name, addresses[source])
    return entries


def release(env: str, after: Mapping[str, Entry], why: str, commit: bool, checkout: Path = CHECKOUT) -> list[Change]:
    """Write an environment's images, print the changes, and commit them if `commit` is set. Returns the changes.

    Changes are relative to the file, or with `commit` to Git's HEAD. So a run with `commit` also commits changes of
    an earlier run.
    """
    path = values.file(env, checkout)
    name = f"values/{path.name}"
    before = _committed(name, checkout) if commit else values.read(env, checkout)
    changes = differences(before, after)
    if not path.exists() or path.read_text() != values.render(after):
        values.write(env, after, checkout)
    if not changes:
        say(f"nothing changed: {name} has these {len(after)} images already")
        return []
    print(table(changes), flush=True)
    say(f"{name}: {len(changes)} of {len(after)} images changed")
    if commit:
        git(checkout, "add", "--", name)
        git(checkout, "commit", "--quiet", "-m", message(env, changes, why), "--", name)
        say(f"committed as {git(checkout, 'log', '-1', '--format=%h %s')}")
    return changes


def message(env: str, changes: list[Change], why: str) -> str:
    """Message of a release's commit."""
    names = ", ".join(one.name for one in changes) if len(changes) <= 3 else f"{len(changes)} images"
    lines = [f"{one.name}: {one.tags}, {one.commits}" for one in changes]
    return "\n".join([f"release: {names} to {env}", "", why, "", *lines])


def _committed(name: str, checkout: Path) -> dict[str, Entry]:
    text = git(checkout, "show", f"HEAD:{name}", check=False)
    return values.parse(text, f"HEAD:{name}") if text else {}


def _digest(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"([a-z]+)=(sha256:[0-9a-f]{64})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=sha256:<64 hex digits>")
    return match[1], match[2]


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.deploy.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    write = actions.add_parser("write", help="the images of this checkout, built if necessary")
    write.add_argument("--env", type=known_env, required=True, help="environment")
    write.add_argument(
        "--digest", action="append", default=[], type=_digest, metavar="NAME=DIGEST",
        help="digest of a new image in the registry, if the build does not report it (Docker)",
    )  # fmt: skip
    write.add_argument(
        "--published", action="store_true", help="do not build; read digests from the environment's registry"
    )
    promote = actions.add_parser("promote", help="the images of another environment")
    promote.add_argument("--from", dest="source", type=known_env, required=True, metavar="ENV")
    promote.add_argument("--to", dest="target", type=known_env, required=True, metavar="ENV")
    for action in (write, promote):
        action.add_argument("--commit", action="store_true", help="commit the file, and no other file")
    options = parser.parse_args()
    if options.action == "promote":
        entries = promoted(options.source, options.target)
        release(options.target, entries, f"The images of {options.source}.", options.commit)
        return
    release(
        options.env,
        built(options.env, dict(options.digest), from_registry=options.published),
        "The images of the commit before.",
        options.commit,
    )


if __name__ == "__main__":
    main(_main)
