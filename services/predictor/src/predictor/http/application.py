"""The FastAPI application: its routes, its middleware and its OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_fastapi_instrumentator import Instrumentator

from predictor import metrics
from predictor.http import admin, auth, documentation, feedback, load_shedding, routes
from predictor.http.bodies import BodyBudget, ReceiveBodies
from predictor.http.closing_connections import ClosingConnections
from predictor.http.errors import HANDLERS
from predictor.http.feedback import Feedback
from predictor.http.load_shedding import BurstSlots, LoadShedding, Slots
from predictor.http.metrics import http_metrics
from predictor.http.one_listing import OneListing
from predictor.http.request_ids import RequestIds
from predictor.http.schemas import BatchHistory
from predictor.http.shared_answer import SharedAnswer
from predictor.pricing.comparables import ComparableSearch
from predictor.pricing.listing import Listing
from predictor.pricing.places import PlaceSearch
from predictor.pricing.price import Pricing
from predictor.record.feedback import FeedbackStore
from predictor.record.history import LedgerHistory
from predictor.record.shadow import Shadow
from predictor.serving.follower import AliasFollower
from predictor.settings import PredictorSettings

# Lists that are priced, or searches for similar sales, at the same time: a pod has one core, so more of them would only
# take more memory.
PRICING_THREADS = 2
HISTORY_SECONDS = 2.0  # how old the answer of `/history` may be


class Background(Protocol):
    """A thread that runs while the application runs."""

    def start(self) -> None:
        """Start the thread."""

    def stop(self) -> None:
        """Finish the work and stop the thread."""


@dataclass(frozen=True)
class Services:
    """Everything that the routes use."""

    follower: AliasFollower
    pricing: Pricing
    shadow: Shadow | None
    history: LedgerHistory
    feedback: FeedbackStore
    places: PlaceSearch
    comparables: ComparableSearch
    background: Sequence[Background]  # started and stopped in this order


class HouseApi(FastAPI):
    """Completes the OpenAPI document.

    It adds `Listing` and `Feedback`, which FastAPI does not see because their routes parse the body themselves, and
    the limits and keys that depend on the settings.
    """

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document = super().openapi()
        for model in (Listing, Feedback):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            document["components"]["schemas"].setdefault(model.__name__, schema)
        settings = self.state.settings
        routes.document(document, {routes.PREDICT: settings.max_listings, routes.EXPLAIN: settings.max_explained})
        load_shedding.document(document)
        if settings.require_api_key:
            auth.document(document)
        return document


def application(
    settings: PredictorSettings,
    services: Services,
    keys: auth.ApiKeys | None,
    version: str,
    on_start: Callable[[Callable[[], None]], None],
) -> HouseApi:
    """The application. `keys` is None if prices need no key.

    `on_start` runs in the event loop before the threads start. It gets a function that marks the application as ending.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        on_start(lambda: setattr(app.state, "ending", True))
        for thread in services.background:
            thread.start()
        yield
        app.state.ending = True
        for thread in services.background:
            thread.stop()

    app = HouseApi(
        title="House prices",
        description="Prices US houses with the champion model of the MLflow registry.",
        version=version,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        docs_url=None,  # `documentation` has a page that loads nothing from other hosts
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.ending = False
    app.state.follower = services.follower
    app.state.shadow = services.shadow
    app.state.history = SharedAnswer(lambda: _history(services.history), HISTORY_SECONDS)
    app.state.feedback = services.feedback
    app.state.pricing = services.pricing
    app.state.places = services.places
    app.state.comparables = services.comparables
    app.state.pricing_threads = asyncio.Semaphore(PRICING_THREADS)
    for router in (routes.router, feedback.router, admin.router, documentation.router):
        app.include_router(router)
    _add_middleware(app, settings, services.pricing, keys)
    return app


def _history(history: LedgerHistory) -> bytes:
    return BatchHistory.model_validate(history.read()).model_dump_json().encode()


def _add_middleware(app: HouseApi, settings: PredictorSettings, pricing: Pricing, keys: auth.ApiKeys | None) -> None:
    """Add the middleware. A request passes it from the last one added to the first one."""
    slots, burst_slots = Slots(settings.max_in_flight), BurstSlots(settings.max_in_flight)
    metrics.in_flight.set_function(lambda: slots.count + burst_slots.count)
    app.add_middleware(LoadShedding, slots=slots)  # inside metrics and request ids, which must cover its refusals
    app.add_middleware(
        ReceiveBodies,
        slots=slots,
        budget=BodyBudget(settings.max_bodies_bytes),
        max_bytes=settings.max_body_bytes,
        seconds=settings.body_seconds,
    )
    if keys:
        app.add_middleware(auth.RequireApiKey, keys=keys)  # outside both: a body without a key is not read
    Instrumentator().add(http_metrics.count).instrument(app).expose(
        app, summary="Metrics for Prometheus", response_class=PlainTextResponse
    )
    app.add_middleware(RequestIds)
    app.add_middleware(
        OneListing,
        pricing=pricing,
        slots=burst_slots,
        keys=keys,
        max_body_bytes=settings.max_body_bytes,
        body_seconds=settings.body_seconds,
    )
    app.add_middleware(ClosingConnections, state=app.state)
