"""Run `mlflow server` as one process: `python serve.py server --host ...`, with the options of the `mlflow` program.

`mlflow server` starts uvicorn as a child and then only waits for it, with all of MLflow imported: about 150 MB for
nothing. Here the server replaces that process. MLflow's own code still builds the command and its environment.

With `--app-name=basic-auth`, requests need a login (login.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import login
import mlflow.server
from mlflow.cli import cli


def replace_process(command: Sequence[str], *, extra_env: Mapping[str, str], **_: Any) -> NoReturn:
    """Become the server, instead of starting it as a child."""
    os.execvpe(command[0], list(command), {**os.environ, **extra_env})  # noqa: S606  # no shell is wanted


if not hasattr(mlflow.server, "_exec_cmd"):
    raise SystemExit("this version of MLflow starts its server in another way: adapt services/mlflow/serve.py")
mlflow.server._exec_cmd = replace_process
if "--app-name=basic-auth" in sys.argv:
    login.prepare()
cli()
