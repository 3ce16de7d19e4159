"""How a run ends: the best weights as a classifier, predictions and scores, and the page."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from panderm.classifying.calibrated import Calibration
from panderm.classifying.classifier import Classifier, load_classifier
from panderm.classifying.file import NAME, amend_classifier, read_record, write_classifier
from panderm.classifying.tta import TtaViews, probabilities_under
from panderm.embeddings import Embeddings, open_embeddings
from panderm.embeddings.making.loop import extract
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import ArtifactError, PandermError
from panderm.finetuning.page import report_of
from panderm.finetuning.predicted import Either, Predicting, calibrate
from panderm.finetuning.rows import Rows
from panderm.finetuning.run_card import (
    EMBEDDINGS_NAME,
    LAST_NAME,
    PAGE_NAME,
    SCORES_NAME,
    TEST_NAME,
    TTA_NAME,
    TTA_SCORES_NAME,
    VAL_NAME,
    FineTuningCard,
)
from panderm.finetuning.watching import Watching
from panderm.models.header import header_of
from panderm.predictions import MultiLabelPredictions, Predictions, open_either
from panderm.scores import MultiLabelScores, Scores, evaluate
from panderm.scores.compare import compare
from panderm.scores.compared import Comparison
from panderm.storage import sha256_of_file
from panderm.training.long import checkpoint
from panderm.training.long.card import as_held, write_card
from panderm.training.long.choosing import BEST_FOLDER
from panderm.training.long.loop import Learned
from panderm.weights.account import Account
from panderm.weights.checkpoint import HEAD, read_head, read_state


@dataclass(frozen=True)
class Finetuned:
    """A finished run.

    Attributes:
        folder: of the run.
        card: what it was.
        now: whether anything was learned by this call.
    """

    folder: Path
    card: FineTuningCard
    now: bool = True

    @property
    def classifier(self) -> Path:
        """The file of the best weights, encoder and head: ``panderm.load_encoder`` takes it too."""
        return self.folder / NAME

    @property
    def last(self) -> Path:
        """The file of the weights after the last epoch."""
        return self.folder / LAST_NAME

    @property
    def embeddings(self) -> Path:
        """The run's rows as the fine-tuned encoder sees them."""
        return self.folder / EMBEDDINGS_NAME

    @cached_property
    def predictions(self) -> Either:
        """Predictions of the test rows, or of the validation rows where there are none."""
        test = self.folder / TEST_NAME
        return open_either(test if test.exists() else self.folder / VAL_NAME)

    @cached_property
    def scores(self) -> Scores | MultiLabelScores:
        """Scores of these predictions."""
        several = isinstance(self.predictions, MultiLabelPredictions)
        return (MultiLabelScores if several else Scores).open(self.folder / SCORES_NAME)

    @cached_property
    def tta(self) -> Comparison | None:
        """These predictions beside those of several views; None where none were asked for."""
        path = self.folder / TTA_SCORES_NAME
        return Comparison.open(path) if path.exists() else None

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / PAGE_NAME


@dataclass(frozen=True)
class Ending:
    """What is to be done once a network has learned.

    Attributes:
        method: what was decided before the fit, for cards of predictions.
        temperature: whether one is fitted on the validation rows.
        tta: views of an image; None: none beside the one.
        draws: of the bootstrap.
        seed: of the bootstrap.
        device: where the classifier runs.
        batch_size: images at once; None: what suits the device.
        workers: that decode; None: measured.
        progress: show progress on standard error.
    """

    method: dict[str, Any]
    temperature: bool
    tta: TtaViews | None
    draws: int
    seed: int
    device: str
    batch_size: int | None
    workers: int | None
    progress: bool


def finish(
    folder: Path,
    card: FineTuningCard,
    done: Learned,
    watching: Watching,
    rows: Rows,
    ending: Ending,
    ranks: Ranks,
) -> FineTuningCard:
    """Write classifiers, predictions, scores, the card with what came of it, and the page.

    All processes embed; the first writes.
    """
    decided = Calibration.model_validate(
        ranks.agree(lambda: _write_classifiers(folder, done, watching, rows, ending).model_dump(mode="json"))
    )
    classifier = load_classifier(folder / NAME, device=ending.device)
    used = np.sort(np.concatenate([rows.train, rows.val, rows.test]))
    embeddings = extract(
        classifier.encoder,
        rows.table.select(used),
        folder / EMBEDDINGS_NAME,
        batch_size=ending.batch_size,
        workers=ending.workers,
        skip_bad=True,
        overwrite=_is_of_other_weights(folder / EMBEDDINGS_NAME, classifier, ranks),
        progress=ending.progress and ranks.lead,
        ranks=ranks,
    ).embeddings
    told = ranks.agree(
        lambda: as_held(
            _conclude(folder, card, done, watching, rows, ending, classifier, embeddings, decided)
        )
    )
    return FineTuningCard.model_validate(told)


def _write_classifiers(
    folder: Path, done: Learned, watching: Watching, rows: Rows, ending: Ending
) -> Calibration:
    """Write the best and the last weights, and what the validation rows decide for the best."""
    last, best = done.averaged or done.model, watching.selection.best
    assert last is not None
    assert best is not None
    watching.write(folder / LAST_NAME, last, len(watching.selection.looks), self_test=True)
    path = watching.best_file(best)
    header = header_of(path) if path.exists() else None
    if header is None:
        raise ArtifactError(
            "the weights of the best epoch must be in the run's folder.",
            f"found no {path}",
            "put the file back, or begin again with --overwrite",
        )
    head = read_head(path)
    write_classifier(
        folder / NAME,
        encoder=read_state(path, Account()),
        weight=head[HEAD[0]],
        bias=head[HEAD[1]],
        card=header.card,
        pool=header.pool,
        record=read_record(path),
        overwrite=True,
    )
    # Before anything is predicted: the file's hash, by which its embeddings know it, is then the last.
    classifier = load_classifier(folder / NAME, device=ending.device)
    seen = extract(
        classifier.encoder,
        rows.table.select(rows.val),
        batch_size=ending.batch_size,
        workers=ending.workers,
        progress=ending.progress,
    ).embeddings
    predicting = Predicting(rows, classifier, seen, method=ending.method, outcome={}, seconds=0.0)
    fitted, decided = calibrate(predicting, temperature=ending.temperature)
    amend_classifier(
        folder / NAME, temperature=fitted.temperature, calibration=decided.model_dump(mode="json")
    )
    return decided


def _is_of_other_weights(folder: Path, classifier: Classifier, ranks: Ranks) -> bool:
    """Say whether embeddings are there that other weights made: a start that was stopped wrote them."""

    def differs() -> bool:
        if not folder.exists():
            return False
        try:
            held = open_embeddings(folder, partial=True).card.encoder
        except PandermError:
            return True
        return held.weights_sha256 != classifier.encoder.record.weights_sha256

    return ranks.agree(differs)


def _conclude(
    folder: Path,
    card: FineTuningCard,
    done: Learned,
    watching: Watching,
    rows: Rows,
    ending: Ending,
    classifier: Classifier,
    embeddings: Embeddings,
    decided: Calibration,
) -> FineTuningCard:
    selection = watching.selection
    outcome = {
        "epochs": len(selection.looks),
        "epoch kept": selection.best,
        f"{selection.score} of the validation rows": selection.value,
        "stopped early": done.stopped_early,
    }
    predicting = Predicting(
        rows,
        classifier,
        embeddings,
        method=ending.method,
        outcome=outcome,
        seconds=done.seconds,
    )
    val = predicting.of("val")
    val.save(folder / VAL_NAME, overwrite=True)
    made: Either = val
    if len(rows.test):
        beside = val if isinstance(val, Predictions) else None
        made = predicting.of("test", beside=beside)
        made.save(folder / TEST_NAME, overwrite=True)
    scores = evaluate(made, draws=ending.draws, seed=ending.seed, progress=ending.progress)
    scores.save(folder / SCORES_NAME, overwrite=True)
    tta = None if ending.tta is None else _under_views(folder, predicting, made, ending)
    result = {
        "steps": done.steps,
        "stopped_early": done.stopped_early,
        "best": selection.best,
        "score": selection.score,
        "value": selection.value,
        "bad": len(done.bad),
        "files": {name: sha256_of_file(folder / name) for name in (NAME, LAST_NAME)},
        "calibration": decided.model_dump(mode="json"),
    }
    card = card.model_copy(update={"complete": True, "result": result})
    page = report_of(folder, card, made, scores, tta=tta, progress=ending.progress)
    page.save(folder / PAGE_NAME, overwrite=True)
    write_card(folder, card)
    # A finished run does not go on: what it would go on from is many times the classifier.
    shutil.rmtree(folder / BEST_FOLDER, ignore_errors=True)
    shutil.rmtree(folder / checkpoint.FOLDER, ignore_errors=True)
    return card


def _under_views(folder: Path, predicting: Predicting, made: Either, ending: Ending) -> Comparison:
    """Predict the rows scored from several views, and compare with the one view."""
    views = ending.tta
    assert views is not None
    part = made.card.split
    rows = predicting.rows.table.select(getattr(predicting.rows, part))
    under = probabilities_under(
        predicting.classifier.encoder,
        predicting.classifier.head,
        rows,
        views,
        batch_size=ending.batch_size,
        workers=ending.workers,
        progress=ending.progress,
    )
    if len(under.positions) != len(rows):
        raise ArtifactError(
            "an image must stay readable while a run uses it.", [f"{n}: {why}" for n, why in under.bad]
        )
    several = predicting.of(part, probabilities=under.probabilities, method={"views": views.words()})
    several.save(folder / TTA_NAME, overwrite=True)
    asked = None
    if isinstance(made, Predictions):
        area = "auroc" if len(made.classes) == 2 else "auroc_ovr"
        asked = [area, "balanced_accuracy", "accuracy"]
    found = compare(
        [made, several], score=asked, draws=ending.draws, seed=ending.seed, progress=ending.progress
    )
    found.save(folder / TTA_SCORES_NAME, overwrite=True)
    return found
