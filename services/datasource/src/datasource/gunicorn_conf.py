"""How gunicorn runs the data source: one worker, since the cursors live in its memory."""

bind = "0.0.0.0:8000"
workers = 1
worker_class = "uvicorn_worker.UvicornWorker"
worker_tmp_dir = "/dev/shm"  # noqa: S108 - the root file system is read-only, and this is memory
timeout = 600
graceful_timeout = 5
