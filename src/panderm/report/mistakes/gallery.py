"""The mistakes that were made with the most confidence: each seen, and what the probe had learned near it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.predictions import Predictions
from panderm.report.mistakes.attention import WHAT, Attention
from panderm.report.mistakes.looks import Look
from panderm.report.mistakes.nearest import ALIKE, NEIGHBOURS, Neighbour, nearest_training
from panderm.report.mistakes.pictures import predicted_pixels, thumbnail, with_files
from panderm.report.several.keys import Key

MOST = 24


@dataclass(frozen=True)
class Mistake:
    """One image whose most probable class is not its true one.

    Attributes:
        image: its name in the table.
        truth: the true class.
        predicted: the most probable class.
        probability: of the predicted class, in [0, 1].
        of_truth: probability of the true class, in [0, 1].
        picture: a JPEG as ``data:`` address, or None where the file cannot be read any more.
        problem: why there is no picture.
        neighbours: the nearest rows that were fitted, where the embeddings could be found.
        attention: the image under its attention, as ``data:`` address, where it was asked for.
    """

    image: str
    truth: str
    predicted: str
    probability: float
    of_truth: float
    picture: str | None
    problem: str | None
    neighbours: tuple[Neighbour, ...] = ()
    attention: str | None = None


@dataclass(frozen=True)
class SharedMistake:
    """One image that some of several encoders put into a wrong class.

    Attributes:
        image: its name in the table.
        truth: the true class.
        taken: for each class it was taken for, which encoders did (positions) and with what probability.
        picture, problem, neighbours, attention: as of :class:`Mistake`; the last two of one encoder.
    """

    image: str
    truth: str
    taken: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]
    picture: str | None
    problem: str | None
    neighbours: tuple[Neighbour, ...] = ()
    attention: str | None = None


def count_mistakes(predictions: Predictions) -> int:
    """Return how many images have a most probable class that is not the true one."""
    return int((predictions.predicted_codes() != predictions.truth_codes()).sum())


def most_confident_mistakes(
    predictions: Predictions, most: int = MOST, *, beside: Look | None = None
) -> Iterator[Mistake]:
    """Yield at most ``most`` mistakes, the most confident first, equals in the table's order.

    Args:
        predictions: n rows.
        most: how many.
        beside: the embeddings and the encoder to look at too.
    """
    truth, predicted = predictions.truth_codes(), predictions.predicted_codes()
    wrong = np.flatnonzero(truth != predicted)
    confidence = predictions.probabilities[wrong, predicted[wrong]]
    rows = wrong[np.argsort(-confidence, kind="stable")][:most]
    for row, seen in zip(rows, _seen(predictions, rows, beside), strict=True):
        yield Mistake(
            image=predictions.image[row],
            truth=predictions.classes[truth[row]],
            predicted=predictions.classes[predicted[row]],
            probability=float(predictions.probabilities[row, predicted[row]]),
            of_truth=float(predictions.probabilities[row, truth[row]]),
            picture=seen.picture,
            problem=seen.problem,
            neighbours=seen.neighbours,
            attention=seen.attention,
        )


def wrong_rows(predictions: Sequence[Predictions]) -> npt.NDArray[np.bool_]:
    """Return for each encoder and row whether its most probable class is not the true one, bool (E, n)."""
    return np.array([given.predicted_codes() != given.truth_codes() for given in predictions])


def mistakes_of_all(
    predictions: Sequence[Predictions], most: int = MOST, *, beside: Look | None = None
) -> Iterator[SharedMistake]:
    """Yield the images that every encoder gets wrong, those they are surest of on the whole first.

    Args:
        predictions: of the same rows.
        most: how many.
        beside: the embeddings and the encoder of the first, to look at too.
    """
    everyone = list(range(len(predictions)))
    often = wrong_rows(predictions).sum(axis=0)
    yield from _shared(predictions, everyone, often == len(predictions), most, beside)


def mistakes_of_one(
    predictions: Sequence[Predictions], which: int, most: int = MOST // 2, *, beside: Look | None = None
) -> Iterator[SharedMistake]:
    """Yield the images that this encoder alone gets wrong, those it is surest of first.

    Args:
        predictions: of the same rows.
        which: the position of the encoder.
        most: how many.
        beside: its embeddings and the encoder itself, to look at too.
    """
    wrong = wrong_rows(predictions)
    yield from _shared(predictions, [which], wrong[which] & (wrong.sum(axis=0) == 1), most, beside)


def what_is_beside(looked: Sequence[Look], keys: Sequence[Key] = ()) -> list[str]:
    """Return the sentences that explain neighbours and attention, or say why there are none.

    Args:
        looked: at what, of each evaluation.
        keys: the letters of several.
    """
    said = []
    for i, one in enumerate(looked):
        if one.lost is not None:
            who = f"{keys[i].letter}: " if keys else ""
            said.append(f"{who}{one.lost} No neighbours are shown without them.")
    spaces = [one.space for one in looked if one.space is not None]
    if spaces:
        numbers = " and ".join(dict.fromkeys(f"{len(space.fitted):,}" for space in spaces))
        folds = ", for each image those of the other folds" if any(s.fold is not None for s in spaces) else ""
        whose = f" (by {keys[0].letter} where several are wrong, else by the one that is)" if keys else ""
        said.append(
            f"Beside each mistake stand the {NEIGHBOURS} nearest of the {numbers} images that were "
            f"fitted{folds}{whose}: each with its true class and its cosine, of the stored vectors after "
            "the mean of the fitted rows is taken off, 1 for the same vector and about 0 for an image like "
            "any other. “Same patient”, “same lesion” and “same photo” (points of both pictures agree) "
            "are leaks from what was fitted into what is scored. “Look at the label” marks a neighbour of "
            f"another class that is the same lesion or photograph, or has a cosine of {ALIKE} or more: one "
            "of the two labels may be wrong, and both may be right."
        )
    return [*said, WHAT] if any(one.attention is not None for one in looked) else said


@dataclass(frozen=True)
class _Seen:
    picture: str | None
    problem: str | None
    neighbours: tuple[Neighbour, ...] = ()
    attention: str | None = None


def _seen(
    predictions: Predictions,
    rows: npt.NDArray[np.int64],
    beside: Look | None,
    pictures: Predictions | None = None,
) -> Iterator[_Seen]:
    """Yield the picture of each row, from ``pictures`` where they know the files, and what is beside it."""
    pictures = predictions if pictures is None else pictures
    near: dict[int, tuple[Neighbour, ...]] = {}
    if beside is not None and beside.space is not None and len(rows):
        near = nearest_training(predictions, beside.space, [int(row) for row in rows])
    eye: Attention | None = None if beside is None else beside.attention
    for row in rows:
        rgb, problem = predicted_pixels(pictures, int(row))
        if rgb is None:
            yield _Seen(None, problem, near.get(int(row), ()))
            continue
        laid = None if eye is None else eye.picture(rgb)
        yield _Seen(thumbnail(rgb), None, near.get(int(row), ()), laid)


def _shared(
    predictions: Sequence[Predictions],
    who: Sequence[int],
    chosen: npt.NDArray[np.bool_],
    most: int,
    beside: Look | None,
) -> Iterator[SharedMistake]:
    rows = np.flatnonzero(chosen)
    confidence = np.mean([predictions[i].probabilities[rows].max(axis=1) for i in who], axis=0)
    first = with_files(predictions)
    rows = rows[np.argsort(-confidence, kind="stable")][:most]
    for row, seen in zip(rows, _seen(predictions[who[0]], rows, beside, first), strict=True):
        taken: dict[str, list[tuple[int, float]]] = {}
        for i in who:
            chances = predictions[i].probabilities[row]
            taken.setdefault(first.classes[int(chances.argmax())], []).append((i, float(chances.max())))
        yield SharedMistake(
            image=first.image[row],
            truth=first.truth[row],
            taken=tuple((name, tuple(they)) for name, they in taken.items()),
            picture=seen.picture,
            problem=seen.problem,
            neighbours=seen.neighbours,
            attention=seen.attention,
        )
