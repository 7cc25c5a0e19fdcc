"""The baseline of every server: HTTP, routing, one answer. Starlette returns the body of the request."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/json")


app = Starlette(routes=[Route("/predict", echo, methods=["POST"]), Route("/", lambda _: Response())])
