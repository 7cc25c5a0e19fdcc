"""Admin routes. Each of them requires the admin key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse

from core.stores.registry import ModelVersion
from predictor.errors import NoModelError, UnknownFileError
from predictor.http import auth
from predictor.http.schemas import Detail, ReloadResult, ServedBundle
from predictor.serving.peers import BUNDLE_FILES

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Detail, "description": "No admin key, or a wrong one."},
    403: {"model": Detail, "description": "The service has no admin key, so its admin routes are closed."},
}

router = APIRouter(prefix=auth.ADMIN.rstrip("/"), dependencies=[Depends(auth.admin)], responses=_ERRORS)


@router.post("/reload", summary="Poll the registry now")
def reload(request: Request) -> ReloadResult:
    """Loads the version that has the alias, even if it was refused before. Answers when that is done."""
    follower = request.app.state.follower
    outcome = follower.refresh(again=True)
    state = follower.state
    return ReloadResult(
        outcome=outcome, model_version=state.model.version.version if state.model else None, problem=state.problem
    )


# the next two routes are for other pods only (`serving/peers.py`), so the OpenAPI document leaves them out
@router.get("/bundle", include_in_schema=False)
def bundle(request: Request) -> ServedBundle:
    """The version that this pod serves, and the names of its bundle's files."""
    version, folder = _served_bundle(request)
    return ServedBundle(version=version, files=[name for name in BUNDLE_FILES if (folder / name).is_file()])


@router.get("/bundle/{name}", include_in_schema=False)
def bundle_file(request: Request, name: str) -> FileResponse:
    """A file of the bundle that this pod serves."""
    _, folder = _served_bundle(request)
    if name not in BUNDLE_FILES or not (folder / name).is_file():
        raise UnknownFileError(f"the bundle has no file {name[:100]}")
    return FileResponse(folder / name, media_type="application/octet-stream")


def _served_bundle(request: Request) -> tuple[ModelVersion, Path]:
    served: tuple[ModelVersion, Path] | None = request.app.state.follower.served_folder()
    if served is None:
        raise NoModelError("this pod serves no model, or its model is no longer on disk")
    return served
