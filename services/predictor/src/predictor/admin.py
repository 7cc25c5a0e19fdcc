"""Admin routes: always authenticated."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from predictor import auth
from predictor.answers import Detail, Reloaded

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Detail, "description": "Not the admin key."},
    403: {"model": Detail, "description": "No admin key is set, so nobody may."},
}

router = APIRouter(prefix=auth.ADMIN.rstrip("/"), dependencies=[Depends(auth.admin)], responses=_ERRORS)


@router.post("/reload", summary="Look at the registry now")
def reload(request: Request) -> Reloaded:
    """Takes up the version that the alias names, a refused one too, and answers what came of it, once that is known."""
    follower = request.app.state.follower
    outcome = follower.refresh(again=True)
    state = follower.state
    return Reloaded(
        outcome=outcome, model_version=state.served.version.version if state.served else None, problem=state.problem
    )
