"""The tiny world: skin lesions that are drawn, so that the truth is known and nothing is downloaded.

Stylised dermoscopy of three classes with patients, visits, tones, masks and survival times. It is for tests
and for ``panderm demo``; a number measured on it says that the software works, never that a model does.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from panderm.data.painter import Image8, Mask, paint, traits_of
from panderm.errors import UsageError, did_you_mean
from panderm.storage import new_folder

CLASSES = ("nevus", "melanoma", "keratosis")
TONES = ("I", "II", "III", "IV", "V", "VI")
SITES = ("arm", "back", "chest", "face", "leg")
COMMENT = b"drawn by panderm, not a photograph"

HAZARD: Mapping[str, float] = MappingProxyType({"nevus": 0.002, "melanoma": 0.03, "keratosis": 0.004})
"""Events per lesion and month, constant in time: months to an event are exponential, mean 1/hazard."""

FOLLOW_UP = (12.0, 120.0)
"""Months after which a patient is no longer seen, uniform between these, whatever the lesion."""

GROWTH: Mapping[str, float] = MappingProxyType({"nevus": 1.0, "melanoma": 1.15, "keratosis": 1.0})
"""How many times as wide a lesion is on its second visit as on its first."""

# Dealt in turn: three nevi in five; and within each class, by patients, 60 % train, 15 % val, 25 % test.
_LEADING = ("nevus", "melanoma", "nevus", "keratosis", "nevus")
_SPLITS = (
    *("train", "test", "val", "train", "train", "test", "train", "train", "train", "test"),
    *("train", "val", "train", "test", "train", "train", "test", "val", "train", "train"),
)
_FEWEST = 3 * len(_LEADING)  # the third melanoma and the third keratosis bring the val split


@dataclass(frozen=True)
class DrawnWorld:
    """Where a drawn world lies, and how much of it there is."""

    csv: Path
    images: Path
    masks: Path
    classes: tuple[str, ...]
    n: int
    patients: int


@dataclass(frozen=True)
class DrawnRow:
    """One line of ``world.csv``. ``area`` counts the mask's pixels and is 0 until the image is drawn."""

    image: str
    label: str
    split: str
    patient_id: str
    lesion_id: str
    site: str
    tone: str
    area: int
    visit: int
    time: float
    event: int
    mask: str


def draw_world(
    folder: Path,
    *,
    n: int = 240,
    patients: int | None = None,
    seed: int = 0,
    size: tuple[int, int] = (300, 225),
    difficulty: float = 0.3,
    overwrite: bool = False,
) -> DrawnWorld:
    """Write ``world.csv``, ``images/*.jpg`` (sRGB) and ``masks/*.png`` (1 bit, 255 inside) into a new folder.

    The same arguments give the same bytes (with the same numpy and Pillow). While ``n / patients`` stays the
    same, a smaller world is the beginning of a larger one.

    Args:
        folder: must not exist, or ``overwrite``.
        n: images, at least 15.
        patients: at least 15 and at most ``n``; ``None``: a quarter of ``n``, or 15 where that is more.
        seed: 0 or more.
        size: width and height in pixels, each at least 32.
        difficulty: from 0 (every lesion typical of its class) to 1 (the classes overlap widely).
        overwrite: replace the folder where it exists, once the new one is whole.

    Raises:
        UsageError: an argument outside these bounds.
        ArtifactError: the folder exists or cannot be written.

    Example:
        >>> world = panderm.draw_world(Path("world"), n=240)  # doctest: +SKIP
        >>> table = panderm.read_table(world.csv, images=world.images)  # doctest: +SKIP
    """
    rows = draw_table(n=n, patients=patients, seed=seed)
    _check_drawing(size, difficulty)
    with new_folder(folder, overwrite=overwrite) as temporary:
        (temporary / "images").mkdir()
        (temporary / "masks").mkdir()
        with (temporary / "world.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(DrawnRow.__dataclass_fields__), lineterminator="\n")
            writer.writeheader()
            for row in rows:
                pixels, mask = draw_lesion(
                    _stream(seed, row.lesion_id),
                    label=row.label,
                    tone=row.tone,
                    size=size,
                    difficulty=difficulty,
                    growth=GROWTH[row.label] if row.visit == 2 else 1.0,
                    patient=_stream(seed, row.patient_id),
                    picture=_stream(seed, row.image),
                )
                picture = temporary / "images" / row.image
                Image.fromarray(pixels).save(picture, quality=92, comment=COMMENT)
                Image.fromarray(mask).save(temporary / "masks" / row.mask)
                writer.writerow(asdict(replace(row, area=int(mask.sum()))))
    return DrawnWorld(
        csv=folder / "world.csv",
        images=folder / "images",
        masks=folder / "masks",
        classes=CLASSES,
        n=n,
        patients=len({row.patient_id for row in rows}),
    )


def draw_table(*, n: int = 240, patients: int | None = None, seed: int = 0) -> list[DrawnRow]:
    """Return the rows of a drawn world without drawing it, patient after patient, in lesion and visit order.

    A patient has at least one image and at most twice the mean. A lesion has one image (visit 1), two
    (visits 1 and 2) or three (visits 1, 2 and 2), one ``time`` in months and one ``event``: 1 where it came
    back within the patient's follow-up, else 0. Every class is in every split.

    Raises:
        UsageError: fewer images than patients, fewer than 15 patients, or a negative seed.
    """
    if patients is None:
        patients = max(_FEWEST, n // 4)
    if not _FEWEST <= patients <= n:
        raise UsageError(
            "a drawn world must have every class in every split, and an image of every patient.",
            f"n={n}, patients={patients}",
            f"ask for at least {_FEWEST} patients and at least as many images as patients",
        )
    if seed < 0:
        raise UsageError("a seed must be 0 or more.", f"seed={seed}", "choose another seed")
    rows: list[DrawnRow] = []
    dealt: Counter[str] = Counter()
    for index in range(patients):
        name = f"P{index + 1:03d}"
        leading = _LEADING[index % len(_LEADING)]
        split = _SPLITS[dealt[leading] % len(_SPLITS)]
        dealt[leading] += 1
        upto = _images_before(index + 1, n, patients, seed)
        rows += _patient_rows(_stream(seed, "table", name), name, leading, split, upto - len(rows))
    return rows


def _images_before(index: int, n: int, patients: int, seed: int) -> int:
    """Return how many images the first patients have together: at least one each, all at the end."""
    if index == patients:
        return n
    mean = n / patients
    shift = _stream(seed, "count", f"P{index:03d}").uniform(-0.5, 0.5) * (mean - 1)
    return math.floor(mean * index + shift + 0.5)


def _patient_rows(
    rng: np.random.Generator, patient: str, leading: str, split: str, count: int
) -> list[DrawnRow]:
    tone = str(rng.choice(TONES, p=(0.18, 0.26, 0.22, 0.14, 0.12, 0.08)))
    follow_up = rng.uniform(*FOLLOW_UP)
    rows: list[DrawnRow] = []
    lesions = 0
    while len(rows) < count:
        lesions += 1
        other = leading if rng.random() < 0.25 else _LEADING[rng.integers(len(_LEADING))]
        label = other if rows else leading
        lesion = f"{patient}-L{lesions}"
        site = str(rng.choice(SITES))
        until_event = rng.exponential(1 / HAZARD[label])
        pictures = int(rng.choice(3, p=(0.5, 0.3, 0.2))) + 1
        for picture in range(1, min(pictures, count - len(rows)) + 1):
            rows.append(
                DrawnRow(
                    image=f"{lesion}-{picture}.jpg",
                    label=label,
                    split=split,
                    patient_id=patient,
                    lesion_id=lesion,
                    site=site,
                    tone=tone,
                    area=0,
                    visit=min(picture, 2),
                    time=round(max(0.1, min(until_event, follow_up)), 1),
                    event=int(until_event <= follow_up),
                    mask=f"{lesion}-{picture}.png",
                )
            )
    return rows


def _stream(seed: int, *names: str) -> np.random.Generator:
    """Return a generator of its own for each name, so that no drawing depends on what came before it."""
    return np.random.default_rng([seed, *"/".join(names).encode()])


def draw_lesion(
    rng: np.random.Generator,
    *,
    label: str,
    tone: str = "II",
    size: tuple[int, int] = (300, 225),
    difficulty: float = 0.3,
    growth: float = 1.0,
    patient: np.random.Generator | None = None,
    picture: np.random.Generator | None = None,
) -> tuple[Image8, Mask]:
    """Draw one lesion on skin.

    Args:
        rng: makes the lesion: its outline and its colours.
        label: one of ``CLASSES``.
        tone: one of ``TONES``, the Fitzpatrick skin type.
        size: width and height in pixels, each at least 32.
        difficulty: from 0 (typical of its class) to 1 (the classes overlap widely).
        growth: how many times as wide as ``rng`` would have it.
        patient: makes what a patient's lesions share: hue, darkness, size, hair; ``rng`` where ``None``.
        picture: makes what two pictures of a lesion do not share: framing, light, noise; ``rng`` where
            ``None``.

    Returns:
        RGB uint8 ``(H, W, 3)`` and the lesion as bool ``(H, W)``.

    Raises:
        UsageError: an unknown label or tone, or a size or difficulty outside its bounds.
    """
    _check_drawing(size, difficulty)
    for word, known, what in ((label, CLASSES, "label"), (tone, TONES, "tone")):
        if word not in known:
            raise UsageError(
                f"a {what} must be one of {', '.join(known)}.",
                f"found {word!r}{did_you_mean(word, known)}",
            )
    habit = (patient or rng).standard_normal(6)
    return paint(traits_of(rng, label, difficulty, habit), rng, picture or rng, tone, size, growth, habit)


def _check_drawing(size: tuple[int, int], difficulty: float) -> None:
    if min(size) < 32:
        raise UsageError("a drawn image must be at least 32 pixels wide and high.", f"size={size}")
    if not 0 <= difficulty <= 1:
        raise UsageError("a difficulty must be from 0 to 1.", f"difficulty={difficulty}")
