"""Checks that versions go together: MLflow's server and client, a bundle and the libraries that load it.

A mismatch is reported here by a clear message, before it causes a 404 or a crash elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from core.errors import BundleError, RegistryError

MLFLOW = "3.17.2"  # in every image of a release; a test compares it with the locks


def check_mlflow(server_version: str, exact: bool) -> None:
    """Check that an MLflow server of this version can be used.

    Training needs the client's own version (`exact`): an MLflow 3 client calls endpoints that other servers answer with
    404. Serving only reads aliases and files, which work the same on every server of the same major version, so a
    predictor keeps working through an upgrade of MLflow.

    Raises:
        RegistryError: the server cannot be used.
    """
    fits = server_version == MLFLOW if exact else server_version.partition(".")[0] == MLFLOW.partition(".")[0]
    if not fits:
        raise RegistryError(f"MLflow's server is {server_version}, this client {MLFLOW}: deploy images of one release")


def check_libraries(trained_with: Mapping[str, str]) -> None:
    """Check that this program's LightGBM can read a bundle: same major version, and not older.

    Raises:
        BundleError: it cannot.
    """
    writer = trained_with.get("lightgbm")
    if writer is None:
        return  # a bundle of a release that did not record versions
    own = version("lightgbm")
    (major, minor), (own_major, own_minor) = (tuple(map(int, text.split(".")[:2])) for text in (writer, own))
    if major != own_major or minor > own_minor:
        raise BundleError(
            f"the model was written by LightGBM {writer}, this program has {own}: deploy the matching image or train "
            "again"
        )
