"""Answers price requests with the model that MLflow names as champion."""
