"""inventory/<env>.txt lists every object of an environment, so that an added or removed object shows as a changed line.

After an intended change, run: UPDATE_INVENTORY=1 python -m pytest tests/charts/test_inventory.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ci.common.paths import CHECKOUT
from tests.kit.rendering import COMPONENTS, VARIANTS, Object, objects, text

INVENTORY = Path(__file__).parent / "inventory"


def line(item: Object) -> str:
    """Kind, namespace and name; the hash in a Job's name is masked."""
    wanted = item["metadata"]["name"]
    if item["kind"] == "Job":
        wanted = re.sub(r"-[0-9a-f]{8}$", "-<hash>", wanted)
    return f"{item['kind']:<24} {item['metadata'].get('namespace', '-'):<11} {wanted}"


def test_environment_holds_exactly_its_inventory(env: str) -> None:
    lines = [line(item) for item in objects(env)]
    assert len(set(lines)) == len(lines), f"duplicates: {sorted(entry for entry in lines if lines.count(entry) > 1)}"
    now, written = "\n".join(sorted(lines)) + "\n", INVENTORY / f"{env}.txt"
    if os.environ.get("UPDATE_INVENTORY"):
        written.write_text(now)
    before = written.read_text() if written.exists() else ""
    added, removed = (set(a.splitlines()) - set(b.splitlines()) for a, b in ((now, before), (before, now)))
    assert now == before, f"{env}: added: {sorted(added)}; removed: {sorted(removed)}"


def test_every_template_is_rendered_by_some_variant() -> None:
    """The tests of this folder cover only templates that some variant renders."""
    sources = {
        source
        for env, arguments in VARIANTS.values()
        for source in re.findall(r"^# Source: platform/charts/(.+)$", text(env, *arguments), flags=re.M)
    }
    present = {
        str(path.relative_to(CHECKOUT / "charts"))
        for chart in COMPONENTS
        for path in (CHECKOUT / "charts" / chart / "templates").rglob("*.yaml")
    }
    assert present == sources, f"never rendered: {sorted(present - sources)}"
