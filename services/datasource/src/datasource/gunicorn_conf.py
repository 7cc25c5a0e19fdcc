"""Gunicorn's settings: one worker, because the cursors are in its memory."""

bind = "0.0.0.0:8000"
workers = 1
worker_class = "uvicorn_worker.UvicornWorker"
worker_tmp_dir = "/dev/shm"  # noqa: S108 - memory, because the root file system is read-only
timeout = 600
graceful_timeout = 5
