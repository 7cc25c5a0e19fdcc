"""Import rules that `.importlinter` cannot express: one module per stage, and one module per external system."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import core
import pipeline
from pipeline import STAGES

STAGE_NAMES = {stage.name for stage in STAGES}
PIPELINE = sorted(Path(pipeline.__file__).parent.rglob("*.py"))
CORE = sorted(Path(core.__file__).parent.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Dotted names of all imports in a file, at its top and inside of functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} uses a relative import: {ast.unparse(node)}"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_there_is_a_module_per_stage() -> None:
    assert {file.stem for file in PIPELINE if file.parent.name == "stages"} == STAGE_NAMES | {"__init__"}


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("mlflow", {"pipeline/tracking.py"}),
        ("minio", {"stores/objects.py"}),
        ("optuna", {"training/search.py"}),
        ("lightgbm", {"training/boosting.py"}),
        ("jinja2", {"reports/html.py"}),
    ],
)
def test_one_module_imports_each_external_system(library: str, modules: set[str]) -> None:
    users = {f"{file.parent.name}/{file.name}" for file in (*PIPELINE, *CORE)
             if library in {name.split(".")[0] for name in imported(file)}}  # fmt: skip
    assert users == modules, f"{library} is imported by {sorted(users)}"
