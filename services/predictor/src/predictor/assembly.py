"""Builds the service from its settings and connects its parts."""

from __future__ import annotations

from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.errors import SettingsError
from core.stores.registry import RegistryClient
from predictor.http.application import HouseApi, Services, application
from predictor.http.auth import ApiKeys, split_keys
from predictor.http.client_keys import ClientKeys
from predictor.pricing.comparables import ComparableSearch
from predictor.pricing.places import PlaceSearch
from predictor.pricing.price import Pricing
from predictor.record.feedback import FeedbackStore
from predictor.record.history import LedgerHistory
from predictor.record.ledger_metrics import LedgerMetrics
from predictor.record.prediction_log import PredictionLog
from predictor.record.retention import Retention
from predictor.record.shadow import Shadow
from predictor.record.spill import Spill
from predictor.serving.follower import CHALLENGER, CHAMPION, AliasFollower, Role
from predictor.serving.loader import BundleLoader
from predictor.serving.loading_test import run_loading_test
from predictor.serving.peers import Peers
from predictor.serving.trust import TrustCheck, champion_check, trained_check
from predictor.settings import PredictorSettings
from predictor.shutdown import drain_on_sigterm

REGISTRY_TIMEOUT_SECONDS = 5
LEDGER_METRICS_SECONDS = 30


def create_app(settings: PredictorSettings) -> HouseApi:
    """The application. Its threads run from its start to its end."""
    registry = RegistryClient(settings.mlflow_tracking_uri, settings.mlflow_login, timeout=REGISTRY_TIMEOUT_SECONDS)
    loading_test = partial(run_loading_test, seconds=settings.trial_seconds, memory_bytes=settings.trial_memory_bytes)

    def follow(alias: str, directory: Path, role: Role, trust: TrustCheck, peers: Peers | None = None) -> AliasFollower:
        loader = BundleLoader(registry, directory, trust, loading_test, settings.max_bundle_bytes, peers)
        return AliasFollower(registry, settings.model_name, alias, loader, settings.poll_seconds, role)

    champion_trust = champion_check(settings.ledger_dsn)
    follower = follow(settings.model_alias, settings.bundle_dir, CHAMPION, champion_trust, _peers(settings))
    shadow = None
    if settings.shadow_share:
        folder = settings.bundle_dir / f".{CHALLENGER.name}"
        challenger = follow(settings.shadow_alias, folder, CHALLENGER, trained_check(settings.ledger_dsn))
        shadow = Shadow(challenger, settings.shadow_share, settings.ledger_dsn)
    prediction_log = _prediction_log(settings)
    history = LedgerHistory(settings.ledger_dsn)
    ledger_metrics = LedgerMetrics(history, LEDGER_METRICS_SECONDS)
    retention = Retention(
        settings.ledger_dsn, settings.prediction_log_retention_days, settings.prediction_log_max_bytes
    )
    services = Services(
        follower=follower,
        pricing=Pricing(follower, settings.max_listings, settings.max_explained, prediction_log, shadow),
        shadow=shadow,
        history=history,
        feedback=FeedbackStore(settings.ledger_dsn),
        places=PlaceSearch(follower),
        comparables=ComparableSearch(follower),
        background=[each for each in (follower, shadow, ledger_metrics, retention, prediction_log) if each],
    )
    return application(settings, services, _api_keys(settings), _version(settings.image_tag), drain_on_sigterm)


def _peers(settings: PredictorSettings) -> Peers | None:
    """The other pods; None without an admin key, because pods send their model only to its holders."""
    if not (settings.peers and settings.admin_key):
        return None
    return Peers(settings.peers, settings.admin_key, settings.max_bundle_bytes)


def _prediction_log(settings: PredictorSettings) -> PredictionLog | None:
    if not settings.prediction_log:
        return None
    spill = Spill(settings.prediction_log_dir, settings.prediction_log_spill_bytes)
    return PredictionLog(settings.ledger_dsn, spill, settings.prediction_log_queue_bytes)


def _api_keys(settings: PredictorSettings) -> ApiKeys | None:
    if not settings.require_api_key:
        return None
    clients = ClientKeys(settings.client_keys_dir, split_keys(settings.api_keys), settings.client_requests_per_second)
    if clients.empty:
        raise SettingsError(
            "fastapi.config.requireApiKey is true but there is no key: API_KEYS is empty and no client has one, so "
            "every request for a price would be refused. Run `make secrets`, which puts a key into the Secret "
            "`fastapi`, or `make api-key NAME=...`, or set requireApiKey to false"
        )
    return ApiKeys(clients)


def _version(image_tag: str) -> str:
    try:
        return version("house-predictor")
    except PackageNotFoundError:  # images hold the source but not the package; their tags begin with the version
        return image_tag.rpartition("-")[0] or "unknown"
