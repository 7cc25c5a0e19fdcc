"""Which versions go together: MLflow's server and its clients, a bundle and the libraries that load it.

A mismatch is a sentence here, before it is a 404 or a crash somewhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from core.errors import BundleError, RegistryError

MLFLOW = "3.17.2"  # of every image of one release; a test compares it with the locks


def check_mlflow(served: str, exact: bool) -> None:
    """Whether a server of this version can be used.

    Training needs the client's own version (`exact`): an MLflow 3 client calls what other servers answer with 404.
    Serving only reads aliases and files, which every server of the same major version hands out alike, so a predictor
    lives through an upgrade of MLflow.

    Raises:
        RegistryError: it cannot.
    """
    fits = served == MLFLOW if exact else served.partition(".")[0] == MLFLOW.partition(".")[0]
    if not fits:
        raise RegistryError(f"MLflow's server is {served}, this client {MLFLOW}: deploy images of one release")


def check_libraries(needed: Mapping[str, str]) -> None:
    """Whether this program's LightGBM reads what that of a bundle wrote: the same major version, and none older.

    Raises:
        BundleError: it does not.
    """
    wrote = needed.get("lightgbm")
    if wrote is None:
        return  # a bundle of a release that did not say
    found = version("lightgbm")
    (major, minor), (own_major, own_minor) = (tuple(map(int, text.split(".")[:2])) for text in (wrote, found))
    if major != own_major or minor > own_minor:
        raise BundleError(
            f"the model was written by LightGBM {wrote}, this program has {found}: deploy the matching image or train "
            "again"
        )
