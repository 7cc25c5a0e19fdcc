"""The Helm that installs and the Helm of Argo CD, another major version, render the same objects from every chart."""

from __future__ import annotations

import pytest

from ci.argocd import build
from ci.common.console import run
from ci.deploy import charts
from tests.kit.rendering import COMPONENTS, IMAGES, KUBE_API, VARIANTS, alone, parse, text

pytestmark = pytest.mark.e2e

# Chart, options of a component without an environment, or the name of a variant of the platform
CASES = [("platform", variant) for variant in VARIANTS] + [(chart, "") for chart in COMPONENTS]


@pytest.mark.parametrize(("chart", "variant"), CASES, ids=["-".join(filter(None, case)) for case in CASES])
def test_both_versions_of_helm_render_the_same_objects(chart: str, variant: str) -> None:
    program = build.program("helm")
    if not program.exists():
        pytest.skip("Argo CD's Helm is not compiled: its official images are used")
    if variant:
        env, more = VARIANTS[variant]
        expected = text(env, *more)
        options = ("-f", str(charts.CHARTS.parent / "values" / f"{env}.yaml"), "-f", str(IMAGES), *KUBE_API, *more)
    else:
        expected = alone(chart, *KUBE_API)
        options = ("-f", str(IMAGES), *KUBE_API)
    rendered = run([str(program), "template", "mlops", str(charts.CHARTS / chart), "-n", "mlops", *options]).stdout
    assert parse(expected), "nothing is rendered"
    assert parse(rendered) == parse(expected)
