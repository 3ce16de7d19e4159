"""A mask's outline as GeoJSON polygons, or as a CSV of corners."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Literal

import numpy as np

from panderm.segmenting.predicting.packed import PackedMask
from panderm.segmenting.predicting.rings import Outline, Ring, outlines

Contours = Literal["geojson", "csv"]
ORIGIN = (
    "pixels: x to the right, y down; (0, 0) is the upper left corner of the upper left pixel, "
    "(0.5, 0.5) its centre"
)


def contours_text(mask: PackedMask, image: str, kind: Contours) -> str:
    """Return the outline of a mask as the text of a file.

    GeoJSON (RFC 7946, but for the pixels): one Feature a part whose pixels meet at their sides, a Polygon
    with its holes as interior rings; rings are closed, exteriors counter-clockwise by their numbers, holes
    clockwise, and a polygon's area is that of its pixels. Of an empty mask the collection is empty. CSV: one
    row a corner, a ring's first corner not repeated.

    Args:
        mask: the mask.
        image: its image's name.
        kind: which of the two.
    """
    parts = outlines(mask)
    return _geojson(parts, mask, image) if kind == "geojson" else _csv(parts)


def _geojson(parts: list[Outline], mask: PackedMask, image: str) -> str:
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [_closed(ring) for ring in (part.exterior, *part.holes)],
            },
            "properties": {"name": "lesion", "part": i, "area_px": part.area, "holes": len(part.holes)},
        }
        for i, part in enumerate(parts, start=1)
    ]
    collection: dict[str, Any] = {
        "type": "FeatureCollection",
        "image": image,
        "width": mask.shape[1],
        "height": mask.shape[0],
        "coordinates_in": ORIGIN,
        "features": features,
    }
    return json.dumps(collection, ensure_ascii=False, separators=(",", ":")) + "\n"


def _csv(parts: list[Outline]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "ring", "kind", "corner", "x", "y"])
    for i, part in enumerate(parts, start=1):
        for k, ring in enumerate((part.exterior, *part.holes)):
            kind = "hole" if k else "exterior"
            writer.writerows([i, k, kind, n, x, y] for n, (x, y) in enumerate(ring.tolist()))
    return text.getvalue()


def _closed(ring: Ring) -> list[list[int]]:
    closed: list[list[int]] = np.concatenate([ring, ring[:1]]).tolist()
    return closed
