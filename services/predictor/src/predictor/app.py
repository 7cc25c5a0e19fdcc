"""The application that gunicorn serves: `predictor.app:app`."""

from core.settings import load
from predictor.assembly import create_app
from predictor.settings import PredictorSettings

app = create_app(load(PredictorSettings, "fastapi.config"))
