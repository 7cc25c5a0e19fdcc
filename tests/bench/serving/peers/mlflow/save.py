"""Save a LightGBM text as an MLflow model of its own flavour: `python save.py model.txt folder`."""

import sys

import lightgbm
import mlflow.lightgbm

mlflow.lightgbm.save_model(lightgbm.Booster(model_file=sys.argv[1]), sys.argv[2], pip_requirements=[])
