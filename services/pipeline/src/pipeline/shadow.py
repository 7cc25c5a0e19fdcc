"""Let a registered version price a share of live requests beside the champion, unseen by callers; or none any more."""

from __future__ import annotations

from typing import Any

from core.errors import RegistryError
from pipeline.context import Context
from pipeline.outcome import SkipRun
from pipeline.tracking import Tracking


def run(context: Context, version: str | None, off: bool) -> dict[str, Any]:
    """Let the challenger's alias name a version, whatever the gate said of it; with `off` and no version, none.

    Raises:
        SkipRun: it is so already.
        RegistryError: there is no such version, it is the champion, or MLflow failed; the alias is as it was.
        BundleError: the version's bundle is damaged or of other features: predictors would refuse it.
    """
    assert off is (version is None)  # noqa: S101 - the command line takes one of both
    tracking = Tracking(context.settings, context.registry)
    name = context.settings.model_name
    before = context.registry.champion(name, context.settings.shadow_alias)
    if version == (before.version if before else None):
        raise SkipRun(f"{_who(version)} is the challenger already", version=version)
    if version is not None:
        target = tracking.version(version)
        champion = context.registry.champion(name, context.settings.model_alias)
        if champion and champion.version == version:
            raise RegistryError(f"version {version} is the champion: there is nothing to compare it with")
        tracking.bundle(str(target.run_id)).check_golden()
    tracking.set_challenger(version)
    left = f" instead of {_who(before.version)}" if before else ""
    return {"version": version, "summary": f"{_who(version)} is the challenger{left}"}


def _who(version: str | None) -> str:
    return f"version {version}" if version else "no version"
