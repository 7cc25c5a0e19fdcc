"""`/docs`: the documentation of the API, with Swagger UI from a package, so that it works in a closed network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import fastapi_offline  # only its files: they are a current build of Swagger UI
from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

_FILES = Path(fastapi_offline.__file__).parent / "static"
_JS, _CSS, _ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"

router = APIRouter(prefix="/docs", include_in_schema=False)


@router.get("")
async def page(request: Request) -> HTMLResponse:
    """The page. Its links are relative, so that it also works below a path of a proxy."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=request.app.title,
        swagger_js_url=f"docs/{_JS}",
        swagger_css_url=f"docs/{_CSS}",
        swagger_favicon_url=f"docs/{_ICON}",
    )


@router.get("/{name}")
async def file(name: Literal["swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"]) -> FileResponse:
    """A file of the page."""
    return FileResponse(_FILES / name)
