"""Puts the service together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_fastapi_instrumentator import Instrumentator

from core.errors import SettingsError
from core.registry import RegistryClient
from predictor import admin, auth, feedback, in_flight, metrics, routes
from predictor.champion import CHALLENGER, CHAMPION, ChampionFollower, Role
from predictor.feedback import Feedback, FeedbackBook
from predictor.forgetting import Forgetting
from predictor.history import LedgerHistory
from predictor.in_flight import InFlight, Places, Queue
from predictor.ledger_metrics import LedgerMetrics
from predictor.listing import Listing
from predictor.one_listing import OneListing
from predictor.prediction_log import PredictionLog
from predictor.pricing import Pricing
from predictor.request_ids import RequestIds
from predictor.settings import PredictorSettings
from predictor.shadow import Shadow
from predictor.shutdown import ClosingConnections, drain_on_sigterm
from predictor.spill import Spill
from predictor.trial import run_trial

REGISTRY_TIMEOUT_SECONDS = 5
LEDGER_METRICS_SECONDS = 30


def create_app(settings: PredictorSettings) -> FastAPI:
    """The application; its threads run from its start to its end."""
    registry = RegistryClient(settings.mlflow_tracking_uri, timeout=REGISTRY_TIMEOUT_SECONDS)

    def following(alias: str, directory: Path, role: Role) -> ChampionFollower:
        return ChampionFollower(
            registry,
            settings.model_name,
            alias,
            directory,
            settings.poll_seconds,
            partial(run_trial, seconds=settings.trial_seconds, memory_bytes=settings.trial_memory_bytes),
            settings.max_bundle_bytes,
            role,
        )

    follower = following(settings.model_alias, settings.bundle_dir, CHAMPION)
    shadow = None
    if settings.shadow_share:
        beside = following(settings.shadow_alias, settings.bundle_dir / f".{CHALLENGER.name}", CHALLENGER)
        shadow = Shadow(beside, settings.shadow_share, settings.ledger_dsn)
    prediction_log = _prediction_log(settings)
    forgetting = Forgetting(settings.ledger_dsn, settings.prediction_log_retention_days)
    history = LedgerHistory(settings.ledger_dsn)
    ledger_metrics = LedgerMetrics(history, LEDGER_METRICS_SECONDS)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        drain_on_sigterm(lambda: setattr(app.state, "ending", True))
        follower.start()
        if shadow:
            shadow.start()
        ledger_metrics.start()
        if prediction_log:
            prediction_log.start()
        forgetting.start()
        yield
        app.state.ending = True
        follower.stop()
        if shadow:
            shadow.stop()
        ledger_metrics.stop()
        forgetting.stop()
        if prediction_log:
            prediction_log.stop()

    app = HouseApi(
        title="House prices",
        description="Prices US houses with the model that MLflow names as champion.",
        version=_version(settings.image_tag),
        lifespan=lifespan,
        exception_handlers=routes.HANDLERS,
    )
    app.state.settings = settings
    app.state.ending = False
    app.state.follower = follower
    app.state.shadow = shadow
    app.state.history = history
    app.state.feedback = FeedbackBook(settings.ledger_dsn)
    pricing = Pricing(follower, settings.max_listings, settings.max_explained, prediction_log, shadow)
    app.state.pricing = pricing
    app.include_router(routes.router)
    app.include_router(feedback.router)
    app.include_router(admin.router)
    places, queue, keys = Places(settings.max_in_flight), Queue(settings.max_in_flight), _api_keys(settings)
    metrics.in_flight.set_function(lambda: places.count + queue.count)
    app.add_middleware(InFlight, places=places)  # inside the next ones, which count and name a refusal
    if keys:
        app.add_middleware(auth.ApiKeys, keys=keys)  # before a request takes a place among them
    Instrumentator().add(metrics.http.count).instrument(app).expose(
        app, summary="Metrics for Prometheus", response_class=PlainTextResponse
    )
    app.add_middleware(RequestIds)
    app.add_middleware(OneListing, pricing=pricing, queue=queue, keys=keys, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(ClosingConnections, state=app.state)  # the last one added is the first that a request meets
    return app


class HouseApi(FastAPI):
    """Adds `Listing` and `Feedback` to the OpenAPI document: their routes read the body, so FastAPI does not see it."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document = super().openapi()
        for model in (Listing, Feedback):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            document["components"]["schemas"].setdefault(model.__name__, schema)
        settings = self.state.settings
        routes.document(document, {routes.PREDICT: settings.max_listings, routes.EXPLAIN: settings.max_explained})
        if settings.max_in_flight:
            in_flight.document(document)
        if settings.require_api_key:
            auth.document(document)
        return document


def _prediction_log(settings: PredictorSettings) -> PredictionLog | None:
    if not settings.prediction_log:
        return None
    spill = Spill(settings.prediction_log_dir, settings.prediction_log_spill_bytes)
    return PredictionLog(settings.ledger_dsn, spill, settings.prediction_log_queue_bytes)


def _api_keys(settings: PredictorSettings) -> auth.Keys | None:
    if not settings.require_api_key:
        return None
    keys = auth.split(settings.api_keys)
    if not keys:
        raise SettingsError(
            "API_KEYS is empty while fastapi.config.requireApiKey is true, so that nobody could ask: put keys into the "
            "Secret `fastapi`, which `make secrets` does, or set requireApiKey to false"
        )
    return auth.Keys(keys)


def _version(image_tag: str) -> str:
    try:
        return version("house-predictor")
    except PackageNotFoundError:  # an image holds the source, not the package, and its tag begins with the version
        return image_tag.rpartition("-")[0] or "unknown"
