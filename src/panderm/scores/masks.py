"""Predicted masks to scores: overlaps and distances of boundaries, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from panderm.predictions.masks import MaskPredictions, read_masks
from panderm.scores.masks_by import score_masks_by
from panderm.scores.record import Subgroups, read_scores
from panderm.scores.resampled import Resampling
from panderm.scores.score import LEVEL, METHOD, Score, as_plain
from panderm.scores.scoring import DRAWS
from panderm.statistics.boundaries import TOLERANCE
from panderm.statistics.masks import DISTANCES, MILLIMETRES, POOLED, THRESHOLD, mask_scores
from panderm.storage import write_json

REASONS = {
    "sensitivity": "no image has a lesion in its true mask",
    "specificity": "in every image the true mask fills the image",
    **dict.fromkeys(DISTANCES, "in no image do both masks hold anything"),
    **dict.fromkeys(MILLIMETRES, "in no image with a scale do both masks hold anything"),
}


@dataclass(frozen=True)
class MaskScores:
    """All scores of one set of predicted masks.

    Attributes:
        per_image: means over the images: dice, jaccard, thresholded_jaccard, sensitivity, specificity,
            accuracy, boundary_f in [0, 1]; hd95 and surface_distance in pixels, and hd95_mm and
            surface_distance_mm in millimetres where the masks came with a scale.
        pooled: of the pixels of all images together: pooled_dice, pooled_jaccard.
        images: by score, how many images have it: those without are left out of its mean.
        n: images scored.
        empty_truth: images whose true mask is empty.
        empty_predicted: images whose predicted mask is empty.
        left_out: images that had one of the two masks only, left out because that was asked for.
        threshold: a Jaccard index below it counts 0 in the thresholded one.
        tolerance: of the boundary F score, a share of the image's diagonal.
        clusters: independent units resampled.
        unit: patient, lesion group or image.
        draws: bootstrap draws.
        seed: of the bootstrap.
        predictions: hex identity of the masks.
        by: scores by the levels of columns, where that was asked for.

    Example:
        >>> panderm.MaskScores.open("masks.json").per_image["thresholded_jaccard"]  # doctest: +SKIP
        Score(value=0.71, low=0.65, high=0.76, reason=None)
    """

    per_image: dict[str, Score]
    pooled: dict[str, Score]
    images: dict[str, int]
    n: int
    empty_truth: int
    empty_predicted: int
    left_out: int
    threshold: float
    clusters: int
    unit: str
    draws: int
    seed: int
    predictions: str
    tolerance: float = TOLERANCE
    by: Subgroups | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what the file holds: plain numbers, text and None."""
        return {"kind": "masks", **as_plain(self), "level": LEVEL, "method": METHOD}

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the scores as JSON, whole or not at all, and return its path."""
        write_json(Path(path), self.as_dict(), overwrite=overwrite)
        return Path(path)

    @classmethod
    def open(cls, path: Path | str) -> MaskScores:
        """Open a file of mask scores.

        Raises:
            ArtifactError: no such file, or not one that panderm wrote of masks.
        """
        held = dict(read_scores(Path(path), _MasksFile, noun="mask scores", maker="panderm evaluate-masks"))
        for name in ("kind", "level", "method"):
            del held[name]
        return cls(**held)


def evaluate_masks(
    masks: MaskPredictions | Path | str,
    *,
    by: Sequence[str] | None = None,
    bands: Mapping[str, Sequence[float]] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> MaskScores:
    """Score predicted masks; every score comes with a 95 % interval.

    Patients are resampled where they are known, else lesions, else images, with all their images. The means
    count every image alike; the pooled overlaps count every pixel alike.

    Args:
        masks: of :func:`read_masks`, or a CSV with both masks of each image.
        by: columns that came with the masks, or two that are crossed, ``"sex:age"``: scores of each level,
            and how far they lie from those of all other images.
        bands: by column, where to cut its numbers, ascending.
        draws: bootstrap draws; 1,000 or more for numbers to publish.
        seed: of the bootstrap; the same seed gives the same intervals.

    Raises:
        UsageError: draws or a seed out of range, or a column that did not come with the masks.
        TableError: as :func:`read_masks`, of a CSV; a column of more than 20 levels.

    Example:
        >>> masks = panderm.read_masks("predicted/", truth="masks/")  # doctest: +SKIP
        >>> panderm.evaluate_masks(masks).pooled["pooled_dice"]  # doctest: +SKIP
        Score(value=0.88, low=0.85, high=0.9, reason=None)
    """
    given = masks if isinstance(masks, MaskPredictions) else read_masks(masks, keep=by or ())
    resampling = Resampling.of(given, draws=draws, seed=seed)
    of_images = given.scores()

    def statistic(weights: npt.NDArray[np.int32] | None) -> dict[str, npt.NDArray[np.float64]]:
        return mask_scores(of_images, given.counts, weights)

    scores = resampling.scores(statistic, REASONS)
    tp, fp, fn, _ = given.counts.T
    return MaskScores(
        per_image={name: scores[name] for name in of_images},
        pooled={name: scores[name] for name in POOLED},
        images={name: int(np.isfinite(values).sum()) for name, values in of_images.items()},
        n=len(given),
        empty_truth=int((tp + fn == 0).sum()),
        empty_predicted=int((tp + fp == 0).sum()),
        left_out=given.left_out,
        threshold=THRESHOLD,
        clusters=resampling.units,
        unit=resampling.unit,
        draws=draws,
        seed=seed,
        predictions=given.identity,
        tolerance=given.tolerance,
        by=score_masks_by(given, by, resampling, REASONS, bands=bands) if by else None,
    )


class _MasksFile(BaseModel):
    """The layout of a file of mask scores; a boundary, so checked on opening."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["masks"]
    per_image: dict[str, Score]
    pooled: dict[str, Score]
    images: dict[str, int]
    n: int
    empty_truth: int
    empty_predicted: int
    left_out: int
    threshold: float
    clusters: int
    unit: str
    draws: int
    seed: int
    predictions: str
    tolerance: float = TOLERANCE
    by: Subgroups | None = None
    level: float
    method: str
