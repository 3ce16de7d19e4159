"""Where a lesion is, in a user's own words: boxes and points, in pixels of the upright image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import pandas as pd

from panderm.data.columns import read_cells
from panderm.errors import TableError, UsageError, did_you_mean, plural, some
from panderm.storage import sha256_of_json

_BOX, _POINT = ("x0", "y0", "x1", "y1"), ("x", "y")
_COLUMNS = ("image", *_BOX, *_POINT, "label", "object")


@dataclass(frozen=True)
class Box:
    """Left, top, right and bottom edge of a lesion, pixels from the image's top left corner.

    ``where`` says who asked for it: ``row 3 of prompts.csv``.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    where: str = ""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.numbers)) or not (self.x0 < self.x1 and self.y0 < self.y1):
            raise UsageError(
                "a box must be x0,y0,x1,y1: left, top, right, bottom, in pixels.",
                f"{self.where or 'found'}: {_shown(self.numbers)}",
            )

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1."""
        return self.x0, self.y0, self.x1, self.y1

    def outside(self, height: int, width: int) -> bool:
        """Return whether it reaches beyond an image of this size."""
        return self.x0 < 0 or self.y0 < 0 or self.x1 > width or self.y1 > height


@dataclass(frozen=True)
class Point:
    """A pixel of a lesion (label 1), or of what is none of it (label 0), counted from 0 at the top left."""

    x: float
    y: float
    label: int = 1
    where: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)) or self.label not in (0, 1):
            raise UsageError(
                "a point must be x,y in pixels, and its label 1 (lesion) or 0 (not lesion).",
                f"{self.where or 'found'}: {_shown((self.x, self.y, self.label))}",
            )

    @property
    def numbers(self) -> tuple[float, float, float]:
        """x, y, label."""
        return self.x, self.y, float(self.label)

    def outside(self, height: int, width: int) -> bool:
        """Return whether no pixel of an image of this size is there."""
        return not (0 <= self.x < width and 0 <= self.y < height)


@dataclass(frozen=True)
class Prompt:
    """What is said of one lesion: a box, points, or both."""

    box: Box | None = None
    points: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        if self.box is None and not any(point.label for point in self.points):
            where = self.points[0].where if self.points else "nothing was said"
            raise UsageError(
                "a lesion must have a box, or a point inside it.",
                f"{where or 'found'}: {plural(len(self.points), 'point')} outside it",
            )

    @property
    def parts(self) -> tuple[Box | Point, ...]:
        """The box, where there is one, and the points."""
        return (*(() if self.box is None else (self.box,)), *self.points)


@dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of images, by their names.

    A name is found as it is written, or else by the file's name without folder and ending.

    Attributes:
        of_image: each image's lesions.
        everywhere: of images that ``of_image`` does not name.
        whole_image: an image without any has the box around all of it.
        sizes: (height, width) that an image must have, where that is known.
        source: where they come from, for messages.
        reasons: by image, why it has none, where that is known.
    """

    of_image: Mapping[str, tuple[Prompt, ...]]
    everywhere: tuple[Prompt, ...] = ()
    whole_image: bool = False
    sizes: Mapping[str, tuple[int, int]] | None = None
    source: str = ""
    reasons: Mapping[str, str] | None = None

    @property
    def identity(self) -> str:
        """Hex SHA-256 of all that is asked for."""

        def told(prompts: Sequence[Prompt]) -> list[list[tuple[float, ...]]]:
            return [[part.numbers for part in one.parts] for one in prompts]

        named = {name: told(prompts) for name, prompts in sorted(self.of_image.items())}
        return sha256_of_json([named, told(self.everywhere), self.whole_image])

    def key_of(self, name: str) -> str | None:
        """Return the name that an image's prompts are kept under; None where there are none of its own.

        Raises:
            UsageError: several would do.
        """
        for written in _written(name):
            if written in self.of_image:
                return written
        found = self._by_stem().get(_stem(name), ())
        if len(found) > 1:
            raise UsageError(
                "an image's prompts must be under one name.", f"{name} may be {some(found)}", _WRITE_WHOLE
            )
        return found[0] if found else None

    def find(self, name: str) -> tuple[Prompt, ...]:
        """Return an image's prompts as they were given; none where it has the whole image's box.

        Raises:
            UsageError: there are none, or several names would do.
        """
        key = self.key_of(name)
        found = self.everywhere if key is None else self.of_image[key]
        if not found and not self.whole_image:
            why = self._reason(name) or f"found none in {self.source or 'what was given'}"
            raise UsageError("every image must have a box or a point.", f"{name}: {why}", _NONE)
        return found

    def within(self, name: str, height: int, width: int) -> tuple[Prompt, ...]:
        """Return an image's prompts, at least one, all of them within its edges.

        Args:
            name: of the image.
            height: of the upright image, pixels.
            width: likewise.

        Raises:
            UsageError: there is none, or one reaches outside; names its row.
        """
        found = self.find(name)
        if problem := self.problem(name, height, width):
            raise UsageError(_INSIDE, problem, _UPRIGHT)
        return found or (Prompt(Box(0.0, 0.0, float(width), float(height), "the whole image")),)

    def problem(self, name: str, height: int, width: int) -> str | None:
        """Return what is wrong with an image's prompts where it is of this size, one line."""
        key = self.key_of(name)
        size = None if key is None else (self.sizes or {}).get(key)
        if size is not None and size != (height, width):
            mask = f"{size[1]} x {size[0]}"
            return f"{name} has {width} x {height} pixels, its mask in {self.source} {mask}"
        for prompt in self.find(name):
            for part in prompt.parts:
                if part.outside(height, width):
                    at = f"{part.where}: " if part.where else ""
                    return f"{at}{_shown(part.numbers)} in {name} of {width} x {height} pixels"
        return None

    def require(self, names: Sequence[str]) -> list[str]:
        """See that each image has prompts of its own, and return those names of prompts that none has.

        Args:
            names: of all images.

        Raises:
            UsageError: images without a prompt, or two that would share one.
        """
        taken: dict[str, str] = {}
        without = []
        for name in names:
            key = self.key_of(name)
            if key is None and not self.everywhere and not self.whole_image:
                why = self._reason(name)
                without.append(f"{name} ({why})" if why else name)
            if key is not None and taken.setdefault(key, name) != name:
                raise UsageError(
                    "an image's prompts must be under one name.",
                    f"{key} may be {taken[key]} or {name}",
                    _WRITE_WHOLE,
                )
        if without:
            raise UsageError(
                "every image must have a box or a point.",
                f"{len(without):,} of {plural(len(names), 'image')} have none in "
                f"{self.source or 'what was given'}: {some(without)}",
                _NONE,
            )
        return [key for key in self.of_image if key not in taken]

    def _reason(self, name: str) -> str | None:
        known = self.reasons or {}
        return next((known[one] for one in _written(name) if one in known), None)

    def _by_stem(self) -> Mapping[str, tuple[str, ...]]:
        # Made once: a frozen dataclass keeps it beside its fields.
        kept: dict[str, tuple[str, ...]] | None = self.__dict__.get("_stems")
        if kept is None:
            kept = {}
            for key in self.of_image:
                kept[_stem(key)] = (*kept.get(_stem(key), ()), key)
            self.__dict__["_stems"] = kept
        return kept


def prompts_of(
    *, boxes: Sequence[str] = (), points: Sequence[str] = (), whole_image: bool = False
) -> Prompts:
    """Return prompts that hold for every image.

    Several boxes are several lesions. Points belong to one lesion, that of the box where there is one.

    Args:
        boxes: each ``x0,y0,x1,y1``: left, top, right, bottom, in pixels of the upright image.
        points: each ``x,y``, a pixel inside the lesion, or ``x,y,0``, one outside it.
        whole_image: without a box and a point, the box around the whole image.

    Raises:
        UsageError: other words, none at all, or points beside several boxes.
    """
    made_boxes = []
    for text in boxes:
        x0, y0, x1, y1 = _numbers(text, "--box", (4,), "x0,y0,x1,y1")
        made_boxes.append(Box(x0, y0, x1, y1, f"--box {text}"))
    made_points = []
    for text in points:
        x, y, *label = _numbers(text, "--point", (2, 3), "x,y or x,y,0")
        if label and label[0] not in (0, 1):
            raise UsageError(_LABEL, f"found --point {text}")
        made_points.append(Point(x, y, int(label[0]) if label else 1, f"--point {text}"))
    if not made_boxes and not made_points:
        if not whole_image:
            raise UsageError("a prompted model must have a prompt.", "found none", _NONE)
        return Prompts({}, whole_image=True, source="the options")
    together = _lesions(made_boxes, made_points, "give --prompts, a CSV with a column object")
    return Prompts({}, everywhere=together, whole_image=whole_image, source="the options")


def read_prompts(path: Path | str, *, whole_image: bool = False) -> Prompts:
    """Read prompts from a table.

    A row is a box (columns x0, y0, x1, y1) or a point (x, y, and label: 1 lesion, 0 not; default 1) of an
    ``image``, in pixels of the upright image at its own size. Several boxes of an image are several lesions;
    its points belong to one lesion, that of its box where it has one. With a column ``object`` the rows of
    the same object are one lesion.

    Args:
        path: a CSV, or a Parquet file.
        whole_image: an image without a row has the box around all of it.

    Raises:
        TableError: a column is missing, or a cell is no number; names the row.
        UsageError: a row that is neither a box nor a point, or points beside several boxes.
    """
    source = Path(path)
    cells = read_cells(source)
    known = [name for name in _COLUMNS if name in cells.columns]
    if "image" not in known:
        raise TableError(
            f"column 'image' must exist{did_you_mean('image', list(cells.columns))}",
            f"{source.name} has: {', '.join(cells.columns)}",
        )
    if not (set(_BOX) <= set(known) or set(_POINT) <= set(known)):
        raise TableError(
            "prompts must have the columns x0, y0, x1, y1 of a box, or x, y and label of a point.",
            f"{source.name} has: {', '.join(cells.columns)}",
        )
    boxes: dict[tuple[str, str], list[Box]] = {}
    points: dict[tuple[str, str], list[Point]] = {}
    for row, cell in cells[known].iterrows():
        where = f"row {row} of {source.name}"
        image = str(cell["image"]).strip()
        if not image:
            raise TableError("every prompt must name its image.", f"{where} names none")
        key = (image, str(cell.get("object", "")).strip())
        box, point = (_cells(cell, names, where) for names in (_BOX, _POINT))
        if (box is None) == (point is None):
            raise UsageError(
                "a row must be one box or one point.",
                f"{where} has {'neither' if box is None else 'both'}",
                "fill x0, y0, x1, y1, or x, y and label",
            )
        if box is not None:
            x0, y0, x1, y1 = box
            boxes.setdefault(key, []).append(Box(x0, y0, x1, y1, where))
        if point is not None:
            points.setdefault(key, []).append(Point(point[0], point[1], _label(cell, where), where))
    found: dict[str, tuple[Prompt, ...]] = {}
    for key in dict.fromkeys([*boxes, *points]):
        image, one = key
        mine = boxes.get(key, [])
        if one and len(mine) > 1:
            raise UsageError("an object must have one box.", f"{mine[1].where} is another of object {one}")
        made = _lesions(mine, points.get(key, []), "add a column object, the same for a box and its points")
        found[image] = (*found.get(image, ()), *made)
    return Prompts(found, whole_image=whole_image, source=source.name)


def _lesions(boxes: Sequence[Box], points: Sequence[Point], hint: str) -> tuple[Prompt, ...]:
    if len(boxes) > 1 and points:
        raise UsageError(
            "a point must belong to one lesion.",
            f"{points[0].where}: beside {plural(len(boxes), 'box', 'boxes')}",
            hint,
        )
    if len(boxes) > 1:
        return tuple(Prompt(box) for box in boxes)
    return (Prompt(boxes[0] if boxes else None, tuple(points)),)


def _cells(cell: pd.Series[str], names: Sequence[str], where: str) -> list[float] | None:
    texts = [str(cell.get(name, "")).strip() for name in names]
    if not any(texts):
        return None
    made = []
    for name, text in zip(names, texts, strict=True):
        try:
            made.append(float(text))
        except ValueError:
            found = repr(text) if text else "nothing"
            raise TableError(f"{', '.join(names)} must be numbers.", f"{where}: {name} is {found}") from None
    return made


def _label(cell: pd.Series[str], where: str) -> int:
    text = str(cell.get("label", "")).strip()
    known = {"": 1, "1": 1, "1.0": 1, "0": 0, "0.0": 0}
    if text not in known:
        raise UsageError(_LABEL, f"{where}: found {text!r}")
    return known[text]


def _numbers(text: str, option: str, counts: Sequence[int], form: str) -> list[float]:
    try:
        found = [float(one) for one in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in counts:
        raise UsageError(f"{option} must be {form}, in pixels.", f"found {option} {text}")
    return found


def _written(name: str) -> tuple[str, str, str]:
    """Return an image's name, that of its file, and that without its ending."""
    path = PurePath(name)
    return name, path.name, path.stem


def _stem(name: str) -> str:
    return PurePath(name).stem


def _shown(numbers: Sequence[float]) -> str:
    return ",".join(f"{one:g}" for one in numbers)


_INSIDE = "a box or point must lie within its image."
_UPRIGHT = "coordinates are pixels of the upright image at its own size, from its top left corner"
_NONE = "give --box, --point or --prompts, or take the whole image's box with --whole-image"
_LABEL = "a point's label must be 1 (lesion) or 0 (not lesion)."
_WRITE_WHOLE = "write each image in the prompts as it is named below its folder: a/x.jpg"
