"""Save the models for the MLflow server: `python save.py folder model.txt bundle`.

`folder/features` is LightGBM's text as a model of its own flavour, `folder/listings` the bundle as it is logged.
"""

import sys
from pathlib import Path

import lightgbm
import mlflow.lightgbm
import mlflow.pyfunc

folder, text, bundle = sys.argv[1:]
mlflow.lightgbm.save_model(lightgbm.Booster(model_file=text), Path(folder) / "features", pip_requirements=[])
mlflow.pyfunc.save_model(Path(folder) / "listings", loader_module="core.pyfunc", data_path=bundle, pip_requirements=[])
