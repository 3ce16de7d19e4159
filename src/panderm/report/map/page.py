"""A map as one self-contained page: points, colours, thumbnails, a lasso, and what may be read from it."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from panderm.errors import plural
from panderm.report.drawing.svg import SERIES
from panderm.report.map.columns import ROLES, Colouring, Numbers
from panderm.report.map.thumbnails import Thumbnails, blanks
from panderm.report.page import Banner, sentence, template
from panderm.report.words import moment, number, plain

if TYPE_CHECKING:
    from panderm.report.map.embedding_map import EmbeddingMap

NAMES = {"umap": "UMAP", "pca": "principal components"}
_SCRIPTS = ("map_points.js", "map_selection.js", "map_hands.js")
_DECIMALS = 5


def render_map(given: EmbeddingMap, thumbnails: Thumbnails) -> str:
    """Return the complete page: HTML, style, script and data in one file.

    Args:
        given: the map.
        thumbnails: a picture, or a word, for each of its rows.
    """
    script = "\n".join(
        (files("panderm.report") / "templates" / name).read_text("utf-8") for name in _SCRIPTS
    ).strip()
    digest = base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode()
    page = template("map.html").render(
        given=given,
        encoder=given.card.encoder,
        table=given.card.table,
        method=NAMES[given.method],
        settings=settings_in_words(given),
        banners=banners(given),
        reading=how_to_read(given),
        thumbnails=thumbnails,
        blanks=blanks(thumbnails.words),
        record=_record(given),
        # No other script than this one runs, whatever a table may hold.
        script_sha256=digest,
        script=Markup(script),
        data=Markup(_for_a_script(_data(given, thumbnails))),
        created=moment(given.provenance.created),
        version=given.provenance.panderm,
    )
    return page.strip() + "\n"


def settings_in_words(given: EmbeddingMap) -> str:
    """Return ``"n_neighbors 10, min_dist 0.2, euclidean, seed 42"``."""
    words = []
    for name, value in given.parameters.items():
        if name == "metric":
            words.append(str(value))
        elif name == "pca_variance":
            words[-1] += f" ({value:.1%} of the variance)".replace("%", " %")
        else:
            words.append(f"{'first components' if name == 'pca' else name} {plain(value)}")
    return ", ".join(words)


def kept_in_words(given: EmbeddingMap) -> str:
    """Return how much of the neighbourhood the map keeps, with n and k."""
    kept = given.kept
    between = "" if kept.low is None else f" (95 % interval {number(kept.low)}–{number(kept.high or 0)})"
    of = f"all {kept.n:,} images" if kept.asked == kept.n else f"{kept.asked:,} of {kept.n:,} images"
    return f"trustworthiness {number(kept.trustworthiness)}{between}, k = {kept.k}, {of} asked after"


def how_to_read(given: EmbeddingMap) -> list[str]:
    """Return what may be read from the map and what not, a sentence each."""
    kept, dim = given.kept, given.card.encoder.dim
    found = []
    if given.explained_variance is None:
        found.append(
            "Read neighbours, not distances: how far clusters lie apart, how large or dense they are, and "
            "where they lie may not be read from a UMAP, and a gap alone is no proof of two groups."
        )
    else:
        x, y = (f"{share:.1%}".replace("%", " %") for share in given.explained_variance)
        both = f"{sum(given.explained_variance):.1%}".replace("%", " %")
        found.append(
            f"The axes are the two directions of greatest variance and hold {both} of it ({x} across, {y} "
            f"upwards): images that lie together here may lie far apart along the other axes of {dim:,}."
        )
    mean = f"{kept.shared * kept.k:.1f}"
    found.append(
        f"Of the {kept.k} images nearest to an image on this map, {mean} on average are among the {kept.k} "
        f"nearest of its vector. {sentence(kept_in_words(given))} 1 would be a map that invents no "
        "neighbour; chance gives about 0.5."
    )
    found.append("Colours come from the table: no label had a part in where a point lies.")
    return found


def banners(given: EmbeddingMap) -> list[Banner]:
    """Return what a reader must know before the first look, the weightiest first."""
    table = given.card.table
    found = []
    if given.card.encoder.random:
        text = "Weights are drawn at random: this map says nothing about a trained encoder."
        found.append(Banner("stop", "Random encoder", text))
    found += [Banner("care", "Warning from the table", sentence(warning)) for warning in table.warnings]
    if table.skipped:
        text = f"{plural(len(table.skipped), 'row')} of the table could not be used and are not on this map."
        found.append(Banner("care", "Rows left out", text))
    if table.note:
        found.append(Banner("note", "Note on the data", sentence(table.note)))
    return found


def _record(given: EmbeddingMap) -> list[tuple[str, str]]:
    encoder, table = given.card.encoder, given.card.table
    form = f"pool {encoder.pool}, {encoder.image_size} pixels, {encoder.precision}"
    rows = [
        ("encoder", f"{encoder.name} ({form})"),
        ("weights", encoder.weights_sha256),
        ("licence of the weights", encoder.licence),
        ("table", f"{table.name}: {plural(table.rows, 'row')}, sha256 {table.sha256[:12]}"),
        ("embeddings", f"{len(given):,} × {encoder.dim:,}, {given.card.identity[:12]}"),
        ("method", f"{NAMES[given.method]}: {settings_in_words(given)}"),
        ("neighbourhood", kept_in_words(given)),
    ]
    if given.colourings.left_out:
        rows.append(("columns not shown", "; ".join(given.colourings.left_out)))
    return [*rows, ("command", given.provenance.command), ("machine", given.provenance.machine)]


def _data(given: EmbeddingMap, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return what the script draws from."""
    reasons = list(blanks(thumbnails.words))
    at = {reason: i for i, reason in enumerate(reasons)}
    x, y = (np.round(axis, _DECIMALS).tolist() for axis in given.coordinates.T)
    return {
        "name": given.card.table.name,
        "image": list(given.rows.image),
        "x": x,
        "y": y,
        # A picture as base64, or the position of the word for why there is none.
        "pictures": [
            picture if picture is not None else at[word or ""]
            for picture, word in zip(thumbnails.pictures, thumbnails.words, strict=True)
        ],
        "reasons": reasons,
        "columns": [_column(one) for one in given.colourings.columns],
        "series": list(SERIES),
    }


def _column(one: Colouring) -> dict[str, Any]:
    role = one.name.split(" (")[0]
    head = {"name": one.name, "header": role if role in ROLES else one.name}
    if isinstance(one, Numbers):
        values = [None if np.isnan(value) else float(f"{value:.7g}") for value in one.values]
        return {**head, "kind": "numbers", "values": values, "low": one.low, "high": one.high}
    return {
        **head,
        "kind": "categories",
        "names": list(one.names),
        "own": one.own,
        "codes": one.codes.tolist(),
    }


def _for_a_script(value: Any) -> str:
    """Return JSON that may stand between script tags: nothing in it ends them or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(sign, code)
    # A name may hold half a character; a page is UTF-8.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
