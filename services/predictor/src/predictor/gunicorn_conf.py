"""How gunicorn runs the service: one worker, because the pod is the unit of scaling and a model is held once."""

from __future__ import annotations

import os
from pathlib import Path

from predictor import logs

bind = "0.0.0.0:8000"  # the pod's address is not known here; its NetworkPolicy says who may connect
workers = 1
worker_class = "uvicorn_worker.UvicornWorker"
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # heartbeat: memory, never a slow disk
timeout = 60  # a worker whose event loop stood still for so long is replaced
graceful_timeout = 20  # requests in flight may take so long after SIGTERM
keepalive = 75  # longer than the idle time of proxies in front, so that they never reuse a closed connection
accesslog = None
control_socket_disable = True
logconfig_dict = logs.config(os.environ.get("LOG_LEVEL", "info"))
