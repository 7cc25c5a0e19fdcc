"""What may import what: stages know core and the pipeline's helpers, one module knows each outside system."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import core
import pipeline
from pipeline import STAGES

STAGE_NAMES = {stage.name for stage in STAGES}
PIPELINE = sorted(Path(pipeline.__file__).parent.glob("*.py"))
CORE = sorted(Path(core.__file__).parent.rglob("*.py"))
OURS = {"core", "pipeline", "predictor", "ui", "datasource", "ci", "tests"}


def imported(file: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} imports by dots: {ast.unparse(node)}"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_there_is_a_module_per_stage() -> None:
    assert {file.stem for file in PIPELINE} >= STAGE_NAMES


@pytest.mark.parametrize("file", PIPELINE, ids=lambda file: file.stem)
def test_nothing_imports_a_stage(file: Path) -> None:
    stages = {name for name in STAGE_NAMES if f"pipeline.{name}" in imported(file)}
    assert not stages, f"pipeline/{file.name} imports the stages {sorted(stages)}: move what both need into a helper"


@pytest.mark.parametrize("file", PIPELINE, ids=lambda file: file.stem)
def test_pipeline_knows_core_and_itself_of_our_packages(file: Path) -> None:
    foreign = {name.split(".")[0] for name in imported(file)} & (OURS - {"core", "pipeline"})
    assert not foreign, f"pipeline/{file.name} imports {sorted(foreign)}"


@pytest.mark.parametrize("file", CORE, ids=lambda file: file.stem)
def test_core_knows_nothing_that_is_built_on_it(file: Path) -> None:
    foreign = {name.split(".")[0] for name in imported(file)} & (OURS - {"core"})
    assert not foreign, f"core/{file.name} imports {sorted(foreign)}"


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("mlflow", {"pipeline/tracking.py"}),
        ("psycopg", {"core/ledger.py", "migrations/__init__.py"}),
        ("sqlalchemy", {"migrations/__init__.py"}),
        ("minio", {"core/storage.py"}),
        ("optuna", {"pipeline/search.py"}),
        ("lightgbm", {"pipeline/learner.py"}),
    ],
)
def test_one_module_touches_each_outside_system(library: str, modules: set[str]) -> None:
    users = {f"{file.parent.name}/{file.name}" for file in (*PIPELINE, *CORE)
             if library in {name.split(".")[0] for name in imported(file)}}  # fmt: skip
    assert users == modules, f"{library} is imported by {sorted(users)}"
