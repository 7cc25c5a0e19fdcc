"""HTTP application of the data source. All routes of the real API are GET; `GET /data` moves the caller's cursor."""

from __future__ import annotations

import time
from typing import Annotated

import orjson
import polars as pl
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_fastapi_instrumentator import Instrumentator

from datasource.faults import Fault, Faults
from datasource.listings import SHAPES
from datasource.settings import settings
from datasource.source import Cursors, Source

END_OF_DATA = "Ya se recolectó toda la información mínima necesaria"
BAD_GROUP = "Número de grupo inválido"
GROUPS = range(1, 11)

app = FastAPI(title="House listings", summary="Stand-in for the external data API.", version="0.2.0")
metrics = CollectorRegistry()  # not the global registry, which may hold metrics of the same names
ProcessCollector(registry=metrics)
PlatformCollector(registry=metrics)
Instrumentator(registry=metrics).instrument(app).expose(app, include_in_schema=False)
source = Source(settings())
cursors = Cursors()
faults = Faults()


def caller(group_number: Annotated[int, Query()], day: Annotated[str, Query(min_length=1)]) -> tuple[int, str]:
    """The owner of the cursor. A wrong group is answered with 400 and the detail of the real service."""
    if group_number not in GROUPS:
        raise HTTPException(400, BAD_GROUP)
    return group_number, day


Caller = Annotated[tuple[int, str], Depends(caller)]


@app.get("/")
def root() -> dict[str, str]:
    """Name of the service."""
    return {"Proyecto Final": "Extracción de datos, entrenamiento de modelos."}


@app.get("/health")
def health() -> dict[str, str]:
    """Liveness."""
    return {"status": "OK"}


@app.get("/about")
def about(floors: bool = False) -> dict[str, object]:
    """The served batches, and their columns that are not real.

    With `floors`, also the smallest possible error per batch, which takes seconds.
    """
    description = source.about()
    return description | {"floors": source.floors()} if floors else description


@app.get("/data")
def data(who: Caller) -> Response:
    """The next batch, or 400 at the end of data. Not idempotent: the cursor moves before the answer is sent."""
    fault = faults.next()
    if fault and fault.kind == "error":
        raise HTTPException(500, "Internal Server Error")
    if fault and fault.kind == "repeat" and cursors.peek(who):
        position: int | None = cursors.peek(who) - 1
    else:
        position = cursors.advance(who, len(source.numbers))
    if position is None:
        raise HTTPException(400, END_OF_DATA)
    number = source.numbers[position]
    frame = source.rows(number)
    time.sleep(settings().latency_scale * _latency(frame.height, number))
    if fault and fault.kind in ("delay", "timeout"):
        time.sleep(fault.seconds)
    if fault and fault.kind == "schema":
        frame = frame.rename({"price": "precio", "bed": "beds"}).with_columns(pl.col("house_size").cast(pl.String))
    body = _body(who, number, frame)
    if fault and fault.kind == "truncated":
        body = body[: len(body) // 2]
    return Response(body, media_type="application/json")


@app.get("/restart_data_generation")
def restart(who: Caller) -> dict[str, bool]:
    """Move the cursor back to the first batch."""
    cursors.restart(who)
    return {"ok": True}


if settings().admin_enabled:

    @app.get("/admin/faults")
    def planned_faults() -> list[Fault]:
        """The planned faults."""
        return faults.planned()

    @app.post("/admin/faults", status_code=201)
    def add_fault(fault: Fault) -> list[Fault]:
        """Plan a fault for the next calls of /data."""
        faults.add(fault)
        return faults.planned()

    @app.delete("/admin/faults", status_code=204)
    def clear_faults() -> None:
        """Remove all planned faults."""
        faults.clear()


def _latency(rows: int, number: int) -> float:
    """Response time of the real service in seconds: 0.6 for the smallest batch, 10 to 52 for the others."""
    full = max(shape.rows for shape in SHAPES)
    uneven = (1.0, 0.55, 1.3, 1.0, 0.8, 1.0)[number]
    return 0.6 if rows < 5_000 else 10 + 42 * min(1.0, uneven * rows / full)


def _body(who: tuple[int, str], number: int, frame: pl.DataFrame) -> bytes:
    """The JSON of the answer. Polars writes the rows, because it needs no Python object per value."""
    head = orjson.dumps({"group_number": who[0], "day": who[1], "batch_number": number})
    return head[:-1] + b',"data":' + frame.write_json().encode() + b"}"
