"""Settings of gunicorn. One worker per pod: pods are the unit of scaling, and each process holds a model."""

from __future__ import annotations

import os
from pathlib import Path

from predictor import logs

bind = "0.0.0.0:8000"  # the pod's address is unknown here; the chart's NetworkPolicy decides who may connect
workers = 1
worker_class = "uvicorn_worker.UvicornWorker"
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # heartbeat file: in memory
timeout = 60  # seconds; gunicorn replaces a worker whose event loop was blocked for this long
graceful_timeout = 20  # seconds for the requests in flight after SIGTERM
keepalive = 75  # seconds; longer than the idle timeout of proxies, so that they never reuse a closed connection
accesslog = None
control_socket_disable = True
logconfig_dict = logs.config(os.environ.get("LOG_LEVEL", "info"))
