"""Embeddings to a map: every image a point on a plane, as a page to look around in, a picture and a CSV."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from panderm.data.table import Table
from panderm.embeddings import Embeddings, EmbeddingsCard, open_embeddings
from panderm.errors import DataError, PandermWarning, UsageError, plural
from panderm.progress import say
from panderm.provenance import Provenance
from panderm.report.map.columns import ROLES, Categories, Colourings, read_colourings
from panderm.report.map.thumbnails import MOST, Thumbnails, make_thumbnails
from panderm.statistics.neighbourhood import Kept, neighbourhood_kept
from panderm.statistics.projection import (
    Metric,
    Plane,
    principal_components,
    project,
    reduced,
    require_finite,
    require_umap,
    umap_projection,
)
from panderm.storage import new_file, refuse_existing, write_text

Method = Literal["umap", "pca"]
FEWEST = 4


@dataclass(frozen=True)
class EmbeddingMap:
    """Images as points on a plane.

    Attributes:
        coordinates: float64 (n, 2).
        method: umap or pca.
        parameters: that decide the map, by name.
        kept: how much of the neighbourhood it keeps.
        explained_variance: shares of the two axes, of pca; None for umap.
        rows: the n rows, in the embeddings' order.
        card: of the embeddings.
        colourings: the columns it can be coloured by.

    Example:
        >>> found = panderm.map_embeddings("ham.emb", color=["label"])  # doctest: +SKIP
        >>> found.trustworthiness  # doctest: +SKIP
        0.953
        >>> found.save("map.html"), found.save_png("map.png")  # doctest: +SKIP
    """

    coordinates: Plane
    method: Method
    parameters: dict[str, Any]
    kept: Kept
    explained_variance: tuple[float, float] | None
    rows: Table
    card: EmbeddingsCard
    colourings: Colourings
    provenance: Provenance = field(default_factory=Provenance.now)

    def __len__(self) -> int:
        return len(self.coordinates)

    @property
    def trustworthiness(self) -> float:
        """Of the map: 1 where every neighbour on it is one among the vectors; about 0.5 by chance."""
        return self.kept.trustworthiness

    def html(self, *, thumbnails: Thumbnails | None = None) -> str:
        """Return the complete page, with the pictures given."""
        from panderm.report.map.page import render_map

        return render_map(self, thumbnails or make_thumbnails(self.rows, 0))

    def save(
        self,
        path: Path | str,
        *,
        thumbnails: int = MOST,
        overwrite: bool = False,
        workers: int = 2,
        progress: bool = True,
    ) -> Thumbnails:
        """Write the page: one file that asks for nothing from outside. It holds pictures of the images.

        Args:
            path: the HTML file.
            thumbnails: images that get a small picture in the page; 0: none.
            overwrite: replace a file that exists.
            workers: threads that read images.
            progress: show a bar on standard error.

        Returns:
            The pictures that went into the page, and why some images have none.

        Raises:
            ArtifactError: the file exists, or cannot be written.
        """
        target = Path(path)
        refuse_existing(target, overwrite=overwrite)
        made = make_thumbnails(self.rows, thumbnails, workers=workers, progress=progress)
        write_text(target, self.html(thumbnails=made), overwrite=overwrite)
        return made

    def save_png(self, path: Path | str, *, dpi: int = 300, overwrite: bool = False) -> Path:
        """Draw the map for print, one panel for each column asked for, and write it as PNG.

        Raises:
            ArtifactError: the file exists, or cannot be written.
        """
        from panderm.report.map.picture import draw_map

        target = Path(path)
        refuse_existing(target, overwrite=overwrite)
        drawn = draw_map(self, dpi=dpi)
        with new_file(target, overwrite=overwrite) as temporary:
            temporary.write_bytes(drawn)
        return target

    def save_csv(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write row, image, path, roles, x and y of every image as CSV.

        Raises:
            ArtifactError: the file exists, or cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        roles = [name for name in ROLES if any(cell is not None for cell in getattr(self.rows, name))]
        writer.writerow(["row", "image", "path", *roles, "x", "y"])
        held = (self.rows.row.tolist(), self.rows.image, self.rows.path)
        columns = [getattr(self.rows, name) for name in roles]
        x, y = (np.round(axis, 6).tolist() for axis in self.coordinates.T)
        writer.writerows(zip(*held, *columns, x, y, strict=True))
        write_text(Path(path), text.getvalue(), overwrite=overwrite)
        return Path(path)

    def as_dict(self) -> dict[str, Any]:
        """Return method, parameters, what the map keeps, and its columns, as JSON takes them."""
        return {
            "method": self.method,
            "parameters": self.parameters,
            "rows": len(self),
            "dim": self.card.encoder.dim,
            "encoder": self.card.encoder.name,
            "trustworthiness": self.trustworthiness,
            "neighbourhood": asdict(self.kept),
            "explained_variance": None if self.explained_variance is None else list(self.explained_variance),
            "color": [one.name for one in self.colourings.columns[: self.colourings.asked]],
            "columns": {
                one.name: "categories" if isinstance(one, Categories) else "numbers"
                for one in self.colourings.columns
            },
            "columns_left_out": list(self.colourings.left_out),
            "embeddings": self.card.identity,
        }


def map_embeddings(
    embeddings: Embeddings | Path | str,
    *,
    color: Sequence[str] | None = None,
    columns: Path | str | None = None,
    image_column: str | None = None,
    only_color: bool = False,
    method: Method = "umap",
    n_neighbors: int = 10,
    min_dist: float = 0.2,
    metric: Metric = "euclidean",
    pca: int | None = None,
    seed: int = 42,
    progress: bool = True,
) -> EmbeddingMap:
    """Lay embeddings out on a plane.

    The settings of UMAP are those of the published notebook: n_neighbors 10, min_dist 0.2, seed 42, on the
    vectors as they are. The same settings, seed and machine give the same map.

    Args:
        embeddings: a :class:`panderm.Embeddings`, or the folder ``X.emb``.
        color: columns to colour by, the first is shown first; by default label, or split where there is none.
        columns: CSV with other columns, joined by image name; by default the table that was embedded.
        image_column: its column with the image's name; by default as in the table that was embedded.
        only_color: the map knows no columns but those of ``color``.
        method: ``umap`` needs umap-learn; ``pca`` draws the first two principal components.
        n_neighbors: of UMAP: fewer show detail, more the whole; of fewer rows it becomes their number less 1.
        min_dist: of UMAP: how close points may lie, 0 to 1.
        metric: how far vectors are from one another; ``cosine`` looks at directions only.
        pca: first reduce the vectors to so many principal components: no longer the published settings, and
            little faster.
        seed: of UMAP.
        progress: say on standard error how long UMAP takes, before it begins.

    Raises:
        UsageError: umap-learn is not installed; a column named twice; settings out of range, or of UMAP with
            another method.
        DataError: fewer than 4 rows, or numbers that are not finite.
        TableError: a column, or an image, that is not there.
        ArtifactError: the embeddings cannot be used, or the table they were made from has changed.

    Example:
        >>> found = panderm.map_embeddings("ham.emb", method="pca", color=["label", "sex"])  # doctest: +SKIP
        >>> found.save("map.html", thumbnails=0)  # doctest: +SKIP
    """
    _require_settings(method, n_neighbors, min_dist, pca, seed)
    if method == "umap":
        require_umap()
    given = embeddings if isinstance(embeddings, Embeddings) else open_embeddings(embeddings)
    n = len(given)
    if n < FEWEST:
        raise DataError(f"a map must have at least {FEWEST} images.", f"found {plural(n, 'image')}")
    colourings = read_colourings(
        given.rows, color, columns=columns, image_column=image_column, only=only_color
    )
    vectors = given.vectors
    require_finite(vectors)
    parameters: dict[str, Any] = {"metric": metric}
    explained = None
    if method == "pca":
        found = principal_components(vectors, metric=metric)
        if not any(found.shares):
            raise DataError("vectors must differ to be mapped.", f"all {n:,} are equal")
        plane = project(vectors, found, metric=metric)
        if plane.shape[1] < 2:
            plane = np.column_stack([plane, np.zeros(n)])
        explained = (found.shares[0], found.shares[1] if len(found.shares) > 1 else 0.0)
    else:
        near = min(n_neighbors, n - 1)
        if near < n_neighbors:
            told = f"n_neighbors is {near}, not {n_neighbors}: there are only {plural(n, 'image')}"
            warnings.warn(told, PandermWarning, stacklevel=2)
        parameters = {"n_neighbors": near, "min_dist": min_dist, "metric": metric, "seed": seed}
        start, its_metric = vectors, metric
        if pca is not None and pca < min(given.dim, n):
            start, held = reduced(vectors, pca, metric=metric)
            its_metric = "euclidean"  # of unit vectors: the order of neighbours is that of the cosine
            parameters |= {"pca": pca, "pca_variance": round(held, 4)}
        if progress:
            told = "numba compiles first, some 10 s; 100,000 images take a minute or two more"
            say(f"UMAP of {n:,} × {given.dim:,} numbers: {told}")
        plane = umap_projection(
            np.asarray(start), n_neighbors=near, min_dist=min_dist, metric=its_metric, seed=seed
        )
    kept = neighbourhood_kept(vectors, plane, metric=metric)
    return EmbeddingMap(plane, method, parameters, kept, explained, given.rows, given.card, colourings)


def _require_settings(method: Method, n_neighbors: int, min_dist: float, pca: int | None, seed: int) -> None:
    if method not in ("umap", "pca"):
        raise UsageError("--method must be umap or pca.", f"found {method!r}")
    if n_neighbors < 2:
        raise UsageError("--n-neighbors must be 2 or more.", f"found {n_neighbors}")
    if not 0 <= min_dist <= 1:
        raise UsageError("--min-dist must lie in 0 to 1.", f"found {min_dist:g}", "the published one is 0.2")
    if not 0 <= seed < 2**32:
        raise UsageError("--seed must lie in 0 to 4,294,967,295.", f"found {seed}")
    if pca is not None and (pca < 2 or method == "pca"):
        found = f"found {pca}" if pca < 2 else "found --method pca, whose map is the first two already"
        raise UsageError("--pca must be 2 components or more, before UMAP.", found)
    if method == "pca":
        given = {"--n-neighbors": (n_neighbors, 10), "--min-dist": (min_dist, 0.2), "--seed": (seed, 42)}
        told = [f"{name} {value:g}" for name, (value, usual) in given.items() if value != usual]
        if told:
            raise UsageError(
                f"{' and '.join(one.split()[0] for one in told)} must be left out with --method pca.",
                f"found {' '.join(told)}, which only UMAP has a use for",
                "leave them out, or take --method umap",
            )
