"""The page of predicted masks: scores with intervals, how Dice is spread, the worst and the middle images."""

from __future__ import annotations

from pathlib import Path

from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import plural
from panderm.predictions.masks import MaskPredictions
from panderm.provenance import Provenance
from panderm.report.masks_pictures import images_of
from panderm.report.masks_sections import (
    HEADLINES,
    TYPICAL,
    WORST,
    beneath_scores,
    by_sections,
    mask_banners,
    mask_score_rows,
    seen_section,
    spread_section,
)
from panderm.report.masks_words import LEVEL_WORDS
from panderm.report.page import pour
from panderm.report.words import moment
from panderm.scores.masks import MaskScores
from panderm.storage import refuse_existing, write_text


class MaskReport:
    """Predicted masks and their scores as one page that needs no network, no script, no other file.

    Args:
        masks: of :func:`panderm.read_masks`.
        scores: of :func:`panderm.evaluate_masks`, of these masks.
        images: folder with the images, found by their names; without it the masks are shown alone.
        max_megapixels: larger images are refused.

    Raises:
        TableError: a folder of images that is not there, or has none of them.

    Example:
        >>> panderm.MaskReport(masks, scores, images="images/").save("masks.html")  # doctest: +SKIP
    """

    def __init__(
        self,
        masks: MaskPredictions,
        scores: MaskScores,
        *,
        images: Path | str | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        self.masks, self.scores = masks, scores
        self._files = images_of(images, masks)
        self._most = max_megapixels

    def html(self) -> str:
        """Return the complete page."""
        now = Provenance.now()
        scores = self.scores
        held = {**scores.per_image, **scores.pooled}
        sections = [
            spread_section(self.masks),
            *by_sections(scores),
            seen_section(self.masks, self._files, WORST, TYPICAL, self._most),
        ]
        return pour(
            "masks.html",
            scores=scores,
            predicted=str(self.masks.source),
            truth=str(self.masks.truth[0].parent),
            command=now.command,
            units=plural(scores.clusters, scores.unit),
            level=LEVEL_WORDS,
            beneath=beneath_scores(scores),
            banners=mask_banners(scores),
            headlines=mask_score_rows(scores, HEADLINES),
            score_rows=[
                (row, scores.images.get(name, scores.n))
                for name, row in zip(held, mask_score_rows(scores), strict=True)
            ],
            sections=sections,
            created=moment(now.created),
            version=now.panderm,
        ).html

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the page, whole or not at all, and return its path.

        Raises:
            ArtifactError: the file exists and ``overwrite`` is not set, or it cannot be written.
        """
        target = Path(path)
        refuse_existing(target, overwrite=overwrite)
        write_text(target, self.html(), overwrite=overwrite)
        return target
