"""The tiny world: skin lesions that are drawn, so that the truth is known and nothing is downloaded.

Stylised dermoscopy of three classes with patients, visits, tones, masks and survival times. It is for tests
and for ``panderm demo``; a number measured on it says that the software works, never that a model does.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from panderm.errors import UsageError, did_you_mean
from panderm.storage import new_folder

CLASSES = ("nevus", "melanoma", "keratosis")
TONES = ("I", "II", "III", "IV", "V", "VI")
SITES = ("arm", "back", "chest", "face", "leg")
COMMENT = b"drawn by panderm, not a photograph"

HAZARD: Mapping[str, float] = MappingProxyType({"nevus": 0.002, "melanoma": 0.03, "keratosis": 0.004})
"""Events per lesion and month, constant in time: the months to an event are exponential with mean 1/hazard."""

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

Image8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
_Plane = NDArray[np.float32]


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
    difficulty: float = 0.5,
) -> DrawnWorld:
    """Write ``world.csv``, ``images/*.jpg`` (sRGB) and ``masks/*.png`` (1 bit, 255 inside) into a new folder.

    The same arguments give the same bytes (with the same numpy and Pillow). While ``n / patients`` stays the
    same, a smaller world is the beginning of a larger one.

    Args:
        folder: must not exist.
        n: images, at least 15.
        patients: at least 15 and at most ``n``; ``None``: a quarter of ``n``, or 15 where that is more.
        seed: 0 or more.
        size: width and height in pixels, each at least 32.
        difficulty: from 0 (every lesion typical of its class) to 1 (the classes overlap widely).

    Raises:
        UsageError: an argument outside these bounds.
        ArtifactError: the folder exists or cannot be written.
    """
    rows = draw_table(n=n, patients=patients, seed=seed)
    _check_drawing(size, difficulty)
    with new_folder(folder) as temporary:
        (temporary / "images").mkdir()
        (temporary / "masks").mkdir()
        with (temporary / "world.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(DrawnRow.__dataclass_fields__), lineterminator="\n")
            writer.writeheader()
            for row, person, lesion, picture in rows_with_streams(rows, seed):
                pixels, mask = draw_lesion(
                    lesion,
                    label=row.label,
                    tone=row.tone,
                    size=size,
                    difficulty=difficulty,
                    growth=GROWTH[row.label] if row.visit == 2 else 1.0,
                    patient=person,
                    picture=picture,
                )
                image = Image.fromarray(pixels)
                image.save(temporary / "images" / row.image, quality=92, comment=COMMENT)
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
