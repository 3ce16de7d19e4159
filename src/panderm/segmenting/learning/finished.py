"""How a run ends: the best weights as a segmenter, masks at native size, their scores, and the page."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from panderm.data.masks import name_of_image
from panderm.data.table import Table
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import ArtifactError
from panderm.predictions.masks import MaskPredictions, count_masks
from panderm.scores.masks import MaskScores, evaluate_masks
from panderm.segmenting.file import read_segmenter_record
from panderm.segmenting.learning.page import write_page
from panderm.segmenting.learning.pairs import Pairs
from panderm.segmenting.learning.parts import Parts
from panderm.segmenting.learning.run_card import (
    LAST_NAME,
    NAME,
    PAGE_NAME,
    SCORES_NAME,
    VAL_SCORES_NAME,
    SegmentationRunCard,
)
from panderm.segmenting.learning.watching import Watching
from panderm.segmenting.predicting.predict import predict_masks
from panderm.segmenting.segmenter import load_segmenter
from panderm.storage import new_file, sha256_of_file, write_text
from panderm.training.long import checkpoint
from panderm.training.long.card import as_held, write_card
from panderm.training.long.choosing import BEST_FOLDER
from panderm.training.long.loop import Learned


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: of the run.
        card: what it was.
        now: whether anything was learned by this call.
    """

    folder: Path
    card: SegmentationRunCard
    now: bool = True

    @property
    def segmenter(self) -> Path:
        """The file of the best weights, encoder and decoder, which ``panderm.load_segmenter`` opens."""
        return self.folder / NAME

    @property
    def last(self) -> Path:
        """The file of the weights after the last epoch."""
        return self.folder / LAST_NAME

    @property
    def scored(self) -> str:
        """The rows that the scores are of: ``test``, or ``val`` where there are none."""
        return str((self.card.result or {})["scored"])

    @property
    def masks_folder(self) -> Path:
        """The masks of these rows, at each image's native size."""
        return self.folder / self.scored

    @property
    def masks_table(self) -> Path:
        """Both masks of each of these rows and its scores, a CSV that ``panderm evaluate-masks`` takes."""
        return self.folder / f"{self.scored}.csv"

    @cached_property
    def scores(self) -> MaskScores:
        """Scores of these masks."""
        return MaskScores.open(self.folder / SCORES_NAME)

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / PAGE_NAME

    def in_words(self) -> list[str]:
        """Return what came of it, a line each."""
        result = self.card.result or {}
        bad = f"; {result['bad']:,} training images could not be read" if result["bad"] else ""
        early = ", stopped early" if result["stopped_early"] else ""
        value = "–" if result["value"] is None else f"{result['value']:.3f}"
        return [
            *([] if self.now else [f"{self.folder}: finished before; nothing was to be done"]),
            f"scores are of the {self.scored} rows, at native size",
            f"epoch {result['best']} kept: {result['score']} {value} on val at {result['side']} pixels; "
            f"{result['steps']:,} steps{early}{bad}",
            f"segmenter: {self.segmenter} (panderm segment predict {self.folder} IMAGES --out masks)",
            f"report: {self.report.resolve()}",
        ]


@dataclass(frozen=True)
class Ending:
    """What is to be done once a network has learned.

    Attributes:
        largest: of each mask the largest part alone is kept.
        fill_holes: its holes are filled.
        draws: of the bootstrap.
        seed: of the bootstrap.
        device: where the segmenter runs.
        workers: that decode; None: measured.
        progress: show progress on standard error.
    """

    largest: bool
    fill_holes: bool
    draws: int
    seed: int
    device: str
    workers: int | None
    progress: bool


def finish(
    folder: Path,
    card: SegmentationRunCard,
    done: Learned,
    watching: Watching,
    parts: Parts,
    ending: Ending,
    ranks: Ranks,
) -> SegmentationRunCard:
    """Write segmenters, masks, scores, the card with what came of it, and the page, in the first process."""
    told = ranks.agree(lambda: as_held(_conclude(folder, card, done, watching, parts, ending)))
    return SegmentationRunCard.model_validate(told)


def _conclude(
    folder: Path, card: SegmentationRunCard, done: Learned, watching: Watching, parts: Parts, ending: Ending
) -> SegmentationRunCard:
    selection = watching.selection
    _write_segmenters(folder, done, watching)
    names = ["val", *(["test"] if len(parts.test) else [])]
    masks: dict[str, MaskPredictions] = {name: _predicted(folder, name, parts, ending) for name in names}
    scores = {
        name: evaluate_masks(held, draws=ending.draws, seed=ending.seed) for name, held in masks.items()
    }
    scores[parts.scored].save(folder / SCORES_NAME, overwrite=True)
    if parts.scored != "val":
        scores["val"].save(folder / VAL_SCORES_NAME, overwrite=True)
    result = {
        "steps": done.steps,
        "stopped_early": done.stopped_early,
        "best": selection.best,
        "score": selection.score,
        "value": selection.value,
        "side": watching.started.size,
        "scored": parts.scored,
        "bad": len(done.bad),
        "files": {name: sha256_of_file(folder / name) for name in (NAME, LAST_NAME)},
    }
    card = card.model_copy(update={"complete": True, "result": result})
    write_page(folder, card, masks[parts.scored], scores, _files_of(parts.of(parts.scored)))
    write_card(folder, card)
    # A finished run does not go on: what it would go on from is many times the segmenter.
    shutil.rmtree(folder / BEST_FOLDER, ignore_errors=True)
    shutil.rmtree(folder / checkpoint.FOLDER, ignore_errors=True)
    return card


def _write_segmenters(folder: Path, done: Learned, watching: Watching) -> None:
    """Write the last weights, and those of the best epoch under their final name, with a self-test."""
    last, best = done.averaged or done.model, watching.selection.best
    assert last is not None
    assert best is not None
    watching.write(folder / LAST_NAME, last, len(watching.selection.looks), self_test=True)
    path = watching.best_file(best)
    if not path.exists():
        raise ArtifactError(
            "the weights of the best epoch must be in the run's folder.",
            f"found no {path}",
            "put the file back, or begin again with --overwrite",
        )
    read_segmenter_record(path)  # whole, and ours
    with new_file(folder / NAME, overwrite=True) as temporary:
        shutil.copyfile(path, temporary)


def _predicted(folder: Path, part: str, parts: Parts, ending: Ending) -> MaskPredictions:
    """Predict the masks of a part as a user would, and count them beside the true ones at native size."""
    pairs = parts.of(part)
    table, most = pairs.table, pairs.table.card.max_megapixels
    made = predict_masks(
        load_segmenter(folder / NAME, device=ending.device),
        table,
        folder / part,
        largest=ending.largest,
        fill_holes=ending.fill_holes,
        max_megapixels=most,
        workers=ending.workers,
        overwrite=(folder / part).exists(),
        progress=ending.progress,
    )
    counted = count_masks(
        _names(table),
        [Path(str(path)) for path in pairs.mask],
        made.masks,
        patient=None if table.card.roles["patient"] is None else table.patient,
        group=None if table.card.roles["group"] is None else table.group,
        max_megapixels=most,
        workers=ending.workers or 2,
        progress=ending.progress,
    )
    _write_table(folder / f"{part}.csv", counted, table)
    return counted


def _write_table(path: Path, masks: MaskPredictions, table: Table) -> None:
    """Write both masks of each image and its scores, as ``panderm evaluate-masks`` reads them."""
    frame = masks.per_image().rename(columns={"patient": "patient_id", "group": "lesion_id"})
    frame["image"] = table.image
    frame.insert(1, "mask", [str(file) for file in masks.truth])
    frame.insert(2, "predicted_mask", [str(file.relative_to(path.parent)) for file in masks.predicted])
    write_text(path, frame.to_csv(index=False), overwrite=True)


def _names(table: Table) -> list[str]:
    """Return what masks call the images: their names without suffix, where these tell them apart."""
    whole = [str(image) for image in table.image]
    short = [name_of_image(image) for image in whole]
    return short if len(set(short)) == len(short) else whole


def _files_of(pairs: Pairs) -> dict[str, Path]:
    table = pairs.table
    return {name: Path(str(path)) for name, path in zip(_names(table), table.path, strict=True)}
