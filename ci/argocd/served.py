"""The branch that a local Argo CD follows: each push adds one commit with the content of the checkout's HEAD.

Beside HEAD's files a commit has values/images-<env>.yaml, which Git may ignore, and what a caller changes. Its history
is that of deliveries: it moves forward only, and names the commit of the checkout that each one is of. Neither index
nor branches of the checkout are touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ci.common.git
from ci.argocd.apply import NAMESPACE
from ci.common.console import Failure, say
from ci.common.kube import forward
from ci.common.paths import CHECKOUT

BRANCH = "main"
WRITE_PORT = 3081
_LARGEST_PUSH = 1 << 30  # bytes


def git(*words: str, stdin: str | None = None, index: Path | None = None, check: bool = True) -> str:
    """Run Git in the checkout, commits being the platform's own, and return what it printed."""
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
           for key, value in (("NAME", "house-platform"), ("EMAIL", "house-platform@localhost"))}  # fmt: skip
    env = {**who, **({"GIT_INDEX_FILE": str(index)} if index else {})}
    return ci.common.git.git(CHECKOUT, *words, stdin=stdin, env=env, check=check)


def tree(env: str, changes: Mapping[str, str | None] | None = None) -> str:
    """Write the tree that is served to Git's objects: HEAD, the images' file, `changes` (path to text, None: gone).

    Raises:
        Failure: there is no file of the images.
    """
    images = f"values/images-{env}.yaml"
    if not (CHECKOUT / images).exists():
        raise Failure(f"{images} is missing: run `make images`, which builds the images and writes it")
    files: dict[str, str | None] = {images: (CHECKOUT / images).read_text()}
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git("read-tree", "HEAD", index=index)
        for path, text in (files | dict(changes or {})).items():
            if text is None:
                git("update-index", "--force-remove", path, index=index)
            else:
                blob = git("hash-object", "-w", "--stdin", stdin=text)
                git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", index=index)
        return git("write-tree", index=index)


def push(env: str, changes: Mapping[str, str | None] | None = None, message: str = "") -> str:
    """Serve the checkout's HEAD; returns the commit of the served branch, the present one if nothing differs."""
    if git("status", "--porcelain", "--untracked-files=no"):
        say("the checkout has uncommitted changes: they are not served")
    wanted, head = tree(env, changes), git("rev-parse", "HEAD")
    with server() as url:
        tip = git("ls-remote", url, f"refs/heads/{BRANCH}").partition("\t")[0]
        if tip:
            git("fetch", "--quiet", "--no-write-fetch-head", url, tip)
            if git("rev-parse", f"{tip}^{{tree}}") == wanted:
                return tip
        text = f"{message or 'deliver ' + git('log', '-1', '--format=%h %s', head)}\n\nCheckout: {head}\n"
        commit = git("commit-tree", wanted, *(("-p", tip) if tip else ()), stdin=text)
        # one body of known length: the server is a CGI program, which does not accept chunked bodies
        git("-c", f"http.postBuffer={_LARGEST_PUSH}", "push", "--quiet", url, f"{commit}:refs/heads/{BRANCH}")
    return commit


@contextmanager
def server() -> Iterator[str]:
    """Address of the repository, open for pushes."""
    with forward(NAMESPACE, "deployment/git", WRITE_PORT) as url:
        yield f"{url}/platform.git"
