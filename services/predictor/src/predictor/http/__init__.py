"""Everything that knows HTTP: routes, schemas, authentication and middleware.

No other package imports FastAPI or Starlette. `serving/peers.py` is a client of this API and uses httpx. The HTTP
status of each error stands at its class in `predictor/errors.py`, because the prediction log stores it as well.
"""
