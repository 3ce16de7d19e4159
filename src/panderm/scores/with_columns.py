"""What images and columns give alone and together, and how far these lie apart on the same draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from panderm.predictions import Predictions
from panderm.scores.record import Scores
from panderm.scores.score import Score
from panderm.scores.scoring import DRAWS, differences, score_rows

BOTH, IMAGES, COLUMNS = "both", "images", "columns"


@dataclass(frozen=True)
class ScoredWithColumns:
    """Three sets of predictions of the same rows, scored on the same draws of the same patients.

    Attributes:
        scores: of ``both``, of ``images`` alone and of ``columns`` alone.
        differences: by name, ``both − images``, ``both − columns`` and ``images − columns``: of every score
            that difference, with the 95 % interval of the difference.
    """

    scores: dict[str, Scores]
    differences: dict[str, dict[str, Score]]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "scores": {name: one.as_dict() for name, one in self.scores.items()},
            "differences": {
                name: {score: one.as_dict() for score, one in apart.items()}
                for name, apart in self.differences.items()
            },
        }


def score_with_columns(
    both: Predictions, images: Predictions, columns: Predictions, *, draws: int = DRAWS, seed: int = 0
) -> ScoredWithColumns:
    """Score predictions by images, by columns and by both, and their paired differences.

    Args:
        both: by images and columns together.
        images: by images alone.
        columns: by columns alone.
        draws: of the bootstrap, the same for all.
        seed: likewise.

    Raises:
        ParentsError: they are of different rows.

    Example:
        >>> made = panderm.probe_with("ham.emb", ["age", "sex"])  # doctest: +SKIP
        >>> told = score_with_columns(made.both, made.images, made.columns)  # doctest: +SKIP
        >>> told.differences["both − images"]["auroc_ovr"]  # doctest: +SKIP
        Score(value=0.028, low=0.019, high=0.038, reason=None)
    """
    made = {BOTH: both, IMAGES: images, COLUMNS: columns}
    images_apart, both_apart = differences([columns, images, both], draws=draws, seed=seed)
    (gained,) = differences([images, both], draws=draws, seed=seed)
    return ScoredWithColumns(
        scores={name: score_rows(one, draws=draws, seed=seed) for name, one in made.items()},
        differences={
            f"{BOTH} − {IMAGES}": gained,
            f"{BOTH} − {COLUMNS}": both_apart,
            f"{IMAGES} − {COLUMNS}": images_apart,
        },
    )
