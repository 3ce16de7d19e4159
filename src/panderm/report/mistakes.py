"""The mistakes that were made with the most confidence, each with a small picture."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from panderm.data.images import MAX_MEGAPIXELS, ImageError, decode, read_bytes
from panderm.predictions import Predictions

MOST = 24
SIDE = 192  # pixels


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
    """

    image: str
    truth: str
    predicted: str
    probability: float
    of_truth: float
    picture: str | None
    problem: str | None


def count_mistakes(predictions: Predictions) -> int:
    """Return how many images have a most probable class that is not the true one."""
    return int((predictions.predicted_codes() != predictions.truth_codes()).sum())


def most_confident_mistakes(predictions: Predictions, most: int = MOST) -> Iterator[Mistake]:
    """Yield at most ``most`` mistakes, the most confident first, equals in the table's order."""
    truth, predicted = predictions.truth_codes(), predictions.predicted_codes()
    wrong = np.flatnonzero(truth != predicted)
    confidence = predictions.probabilities[wrong, predicted[wrong]]
    for row in wrong[np.argsort(-confidence, kind="stable")][:most]:
        picture, problem = _picture(predictions, row)
        yield Mistake(
            image=predictions.image[row],
            truth=predictions.classes[truth[row]],
            predicted=predictions.classes[predicted[row]],
            probability=float(predictions.probabilities[row, predicted[row]]),
            of_truth=float(predictions.probabilities[row, truth[row]]),
            picture=picture,
            problem=problem,
        )


@dataclass(frozen=True)
class SharedMistake:
    """One image that some of several encoders put into a wrong class.

    Attributes:
        image: its name in the table.
        truth: the true class.
        taken: for each class it was taken for, which encoders did (positions) and with what probability.
        picture, problem: as of :class:`Mistake`.
    """

    image: str
    truth: str
    taken: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]
    picture: str | None
    problem: str | None


def wrong_rows(predictions: Sequence[Predictions]) -> npt.NDArray[np.bool_]:
    """Return for each encoder and row whether its most probable class is not the true one, bool (E, n)."""
    return np.array([given.predicted_codes() != given.truth_codes() for given in predictions])


def mistakes_of_all(predictions: Sequence[Predictions], most: int = MOST) -> Iterator[SharedMistake]:
    """Yield the images that every encoder gets wrong, those they are surest of on the whole first."""
    everyone = list(range(len(predictions)))
    often = wrong_rows(predictions).sum(axis=0)
    yield from _shared(predictions, everyone, often == len(predictions), most)


def mistakes_of_one(
    predictions: Sequence[Predictions], which: int, most: int = MOST // 2
) -> Iterator[SharedMistake]:
    """Yield the images that this encoder alone gets wrong, those it is surest of first."""
    wrong = wrong_rows(predictions)
    yield from _shared(predictions, [which], wrong[which] & (wrong.sum(axis=0) == 1), most)


def _shared(
    predictions: Sequence[Predictions], who: Sequence[int], chosen: npt.NDArray[np.bool_], most: int
) -> Iterator[SharedMistake]:
    rows = np.flatnonzero(chosen)
    confidence = np.mean([predictions[i].probabilities[rows].max(axis=1) for i in who], axis=0)
    first = predictions[0]
    for row in rows[np.argsort(-confidence, kind="stable")][:most]:
        taken: dict[str, list[tuple[int, float]]] = {}
        for i in who:
            chances = predictions[i].probabilities[row]
            taken.setdefault(first.classes[int(chances.argmax())], []).append((i, float(chances.max())))
        picture, problem = _picture(first, row)
        yield SharedMistake(
            image=first.image[row],
            truth=first.truth[row],
            taken=tuple((name, tuple(they)) for name, they in taken.items()),
            picture=picture,
            problem=problem,
        )


def thumbnail(rgb: npt.NDArray[np.uint8], side: int = SIDE) -> str:
    """Return an RGB image (H, W, 3) scaled to at most ``side`` pixels as a ``data:image/jpeg`` address."""
    image = Image.fromarray(rgb)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"


def _picture(predictions: Predictions, row: int) -> tuple[str | None, str | None]:
    path, made_of = predictions.path[row], predictions.card.embeddings
    most = made_of.table.max_megapixels if made_of else MAX_MEGAPIXELS
    seen = predictions.sha256[row]  # none where predictions were read from a user's own file
    if not path:
        return None, "no file is named"
    try:
        content = read_bytes(path)
        if seen and hashlib.sha256(content).hexdigest() != seen:
            return None, "changed since it was embedded"
        return thumbnail(decode(content, path, max_megapixels=most)), None
    except ImageError as error:
        return None, error.reason
