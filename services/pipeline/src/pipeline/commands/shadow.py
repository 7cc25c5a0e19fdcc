"""Let a registered version price a share of live requests in the shadow of the champion, or end the shadow."""

from __future__ import annotations

from core.errors import RegistryError
from pipeline.context import Context
from pipeline.outcome import Outcome, SkipRun
from pipeline.tracking import Tracking
from pipeline.trust import checked_bundle


class ShadowOutcome(Outcome):
    """The version that is the challenger now."""

    version: str | None


def run(context: Context, version: str | None, off: bool) -> ShadowOutcome:
    """Move the alias of the challenger to a version, whatever the verdict of the gate was; `off` removes the alias.

    Raises:
        SkipRun: the alias is there already, or removed already.
        RegistryError: there is no such version, it is the champion, or MLflow failed. The alias has not moved.
        BundleError: the bundle is damaged, has other features, or is not the one that the training wrote, so predictors
            would refuse the version.
    """
    assert off is (version is None)  # noqa: S101 - the command line takes exactly one of the two
    tracking = Tracking(context.settings, context.registry)
    name = context.settings.model_name
    before = context.registry.version_by_alias(name, context.settings.shadow_alias)
    if version == (before.version if before else None):
        raise SkipRun(f"{_name(version)} is the challenger already", version=version)
    if version is not None:
        target = tracking.version(version)
        champion = context.registry.version_by_alias(name, context.settings.model_alias)
        if champion and champion.version == version:
            raise RegistryError(f"version {version} is the champion; the challenger must be another version")
        checked_bundle(context, tracking, str(target.run_id)).check_golden()
    with context.ledger.exclusive() as ledger:  # both or nothing, as in a promotion
        ledger.add_challenger(version, before.version if before else None)
        tracking.set_challenger(version)
    replaced = f" instead of {_name(before.version)}" if before else ""
    return {"version": version, "summary": f"{_name(version)} is the challenger{replaced}"}


def _name(version: str | None) -> str:
    return f"version {version}" if version else "no version"
