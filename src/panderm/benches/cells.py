"""One cell: a dataset through an encoder, a probe and the scores; what was made before is taken as it is."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panderm.benches.asked import AskedDataset, AskedEncoder
from panderm.data.table import Table, read_table
from panderm.embeddings import Embeddings, open_embeddings
from panderm.errors import ArtifactError, PandermError, UsageError
from panderm.models.embed_once import embed_once
from panderm.models.encoder import Encoder
from panderm.models.load import load_encoder
from panderm.models.several import Eye, decisive
from panderm.predictions import Predictions, open_predictions
from panderm.provenance import version
from panderm.scores import Scores
from panderm.scores.scoring import score_rows
from panderm.storage import in_a_path, write_json
from panderm.tasks.probe import probe
from panderm.training.settings import ProbeKind, Recipe

_FORMAT = 1
_ASKED, _PREDICTIONS, _SCORES = "asked.json", "probe.pred", "scores.json"


@dataclass(frozen=True)
class Settings:
    """What is the same for all cells of a benchmark."""

    kind: ProbeKind
    recipe: Recipe
    draws: int
    permutations: int
    seed: int
    device: str
    batch_size: int | None
    workers: int | None
    progress: bool


@dataclass(frozen=True)
class Cell:
    """One dataset by one encoder: predictions and scores, or the problem that kept them from being made.

    Attributes:
        dataset: its name.
        encoder: its name.
        predictions: of the split that is scored.
        scores: of these predictions.
        problem: why there are none.
        made: whether anything was computed now; else all was there.
    """

    dataset: str
    encoder: str
    predictions: Predictions | None = None
    scores: Scores | None = None
    problem: str | None = None
    made: bool = False


def in_a_line(error: PandermError | OSError) -> str:
    """Return an error as one sentence for a cell of a table."""
    if isinstance(error, OSError) and not isinstance(error, PandermError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    told = error.must
    for i, line in enumerate(error.found[:3]):
        told += ("; " if i and not told.endswith(":") else " ") + line.strip()
    told = told.rstrip(".") + "."
    return f"{told} Hint: {error.hint}" if error.hint else told


def check_encoder(asked: AskedEncoder, settings: Settings) -> Eye | None:
    """Load an encoder, to see that it is sound; None where only its embeddings say what it is.

    Raises:
        PandermError: it cannot be loaded.
    """
    if asked.known_by_folders_only:
        return None

    def load() -> Encoder:
        return load_encoder(
            asked.encoder,
            weights=asked.weights,
            card=asked.card,
            pool=asked.pool,
            image_size=asked.image_size,
            precision=asked.precision,
            engine=asked.engine,
            device=settings.device,
        )

    return Eye(load().record, load)


def kept_loaded(eye: Eye) -> Eye:
    """Return the same encoder, loaded at most once: when the first of its cells needs it."""
    held: list[Encoder] = []

    def load() -> Encoder:
        if not held:
            held.append(eye.load())
        return held[0]

    return Eye(eye.record, load)


def require_different(eyes: dict[str, Eye]) -> None:
    """Raise :class:`UsageError` where two rows are the same encoder."""
    seen: dict[str, str] = {}
    for name, eye in eyes.items():
        key = json.dumps(decisive(eye.record), sort_keys=True)
        if key in seen:
            raise UsageError(
                "encoders to be compared must differ.",
                f"{seen[key]} and {name} are the same: {eye.record.name}, same weights and settings",
                "take one of them out of --encoders",
            )
        seen[key] = name


def check_table(asked: AskedDataset, *, progress: bool) -> Table | None:
    """Read a dataset's table; None where only its folders of embeddings say what it is.

    Raises:
        PandermError: it cannot be read, or names images that cannot.
    """
    if asked.csv is None:
        return None
    return read_table(
        asked.csv,
        images=asked.images,
        image_column=asked.image_column,
        label=asked.label,
        split_column=asked.split_column,
        patient=asked.patient,
        group=asked.group,
        classes=asked.classes,
        skip_bad=asked.skip_bad,
        decode=False,  # embedding does, and lists what it cannot
        progress=progress,
    )


def embeddings_of(
    asked: AskedDataset, table: Table | None, name: str, eye: Eye | None, out: Path, settings: Settings
) -> tuple[Embeddings, bool]:
    """Return a cell's embeddings, and whether any were made now.

    Existing ones (the column ``embeddings``) must be of this table and this encoder, where those are known.
    """
    given = asked.embedded(name)
    if given is not None:
        return open_embeddings(given, encoder=eye, table=table), False
    if eye is None or table is None:
        what = "an encoder in --encoders" if eye is None else "a csv in --tables"
        looked = f"found no folder {asked.embeddings}" if asked.embeddings else "found no column embeddings"
        raise UsageError(
            f"a cell must have {what}, or embeddings that exist.", looked.replace("{encoder}", name)
        )
    folder = out / "embeddings" / in_a_path(asked.name) / f"{in_a_path(name)}.emb"
    with contextlib.suppress(ArtifactError):
        return open_embeddings(folder, encoder=eye, table=table), False
    made = embed_once(
        eye,
        table,
        folder,
        batch_size=settings.batch_size,
        workers=settings.workers,
        skip_bad=asked.skip_bad,
        overwrite=True,  # it is ours, and of another encoder or table
        progress=settings.progress,
    )
    return made, True


def score_cell(
    embeddings: Embeddings, asked: AskedDataset, name: str, out: Path, settings: Settings
) -> tuple[Predictions, Scores, bool]:
    """Probe and evaluate, or open what the same question gave before; and say whether anything was made."""
    folder = out / "cells" / in_a_path(asked.name) / in_a_path(name)
    question: dict[str, Any] = {
        "format": _FORMAT,
        "panderm": version(),
        "embeddings": embeddings.card.identity,
        "kind": settings.kind,
        "recipe": settings.recipe,
        "test": asked.test,
        "seed": settings.seed,
    }
    predictions = _kept(folder, question)
    made = predictions is None
    if predictions is None:
        predictions = probe(
            embeddings,
            kind=settings.kind,
            recipe=settings.recipe,
            test=asked.test,
            device=settings.device,
            seed=settings.seed,
        )
        # Written last, it says that the rest is whole: a process killed in between leaves no false answer.
        (folder / _ASKED).unlink(missing_ok=True)
        predictions.save(folder / _PREDICTIONS, overwrite=True)
        write_json(folder / _ASKED, question)
    with contextlib.suppress(ArtifactError):
        scores = Scores.open(folder / _SCORES)
        if (scores.predictions, scores.draws, scores.seed) == (
            predictions.card.identity,
            settings.draws,
            settings.seed,
        ):
            return predictions, scores, made
    scores = score_rows(predictions, draws=settings.draws, seed=settings.seed, progress=settings.progress)
    scores.save(folder / _SCORES, overwrite=True)
    return predictions, scores, True


def _kept(folder: Path, question: dict[str, Any]) -> Predictions | None:
    with contextlib.suppress(OSError, ValueError, ArtifactError):
        if json.loads((folder / _ASKED).read_bytes()) == question:
            return open_predictions(folder / _PREDICTIONS)
    return None
