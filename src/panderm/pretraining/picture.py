"""What is hidden from the student and what it says of it, as one picture: a row for each image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from panderm.report.drawing.svg import house_style
from panderm.storage import new_file

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable

Floats: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]

IMAGES = 6
# Grey paper: it glares on no dark page, and is no hole in a light one.
_PAPER, _TEXT, _FAINT, _EDGE = "#2b3036", "#f2f4f6", "#b9c1ca", "#ffffff"
_DPI = 100
_WIDTH, _CELL, _GAP, _SIDE = 12.0, 2.26, 0.1, 0.15  # inches; 1,200 pixels in all
_TOP, _BENEATH, _FOOT = 0.62, 0.26, 0.72
_COLUMNS = ("crop", "what the student sees", "cosine to the teacher", "teacher’s tokens", "student’s tokens")


class Predicts(Protocol):
    """A pretraining model: from normalised pixels (B, 3, S, S) and masks (B, N) to tokens (B, 1 + N, D)."""

    training: bool

    def __call__(self, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor: ...

    def train(self, mode: bool = True) -> Any: ...

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...


class Targets(Protocol):
    """A teacher: from uint8 (n, T, T, 3) to float32 (n, 1 + N, D)."""

    def targets(self, rgb: Any) -> Any: ...


class Shown(Protocol):
    """Images of two views with their masks, as of the feed."""

    @property
    def student(self) -> Any: ...

    @property
    def teacher(self) -> Any: ...

    @property
    def mask(self) -> Any: ...


def draw_picture(
    model: Predicts,
    teacher: Targets,
    batch: Shown,
    path: Path | str,
    *,
    title: str = "",
    images: int = IMAGES,
    normalise: Any = None,
) -> dict[str, float]:
    """Write a picture of some images, their masks, and how near the student's tokens are to the teacher's.

    From left to right: the student's crop; the patches it sees; the cosine of every predicted token to the
    teacher's, on one scale from 0 to 1, masked regions outlined; and the three main directions of the
    teacher's tokens (of unit length, of all images shown) as red, green and blue, of the teacher and, by the
    same directions, of the student.

    Args:
        model: the student with its regressor; it is put to evaluation, and back.
        teacher: frozen.
        batch: ``student`` uint8 (n, S, S, 3), ``teacher`` uint8 (n, T, T, 3), ``mask`` bool (n, N), square.
        path: of the PNG, 1,200 pixels wide; replaced where it exists.
        title: a line above, as the epoch.
        images: at most so many of the batch.
        normalise: from uint8 (n, S, S, 3) tensors to the model's pixels; by default ImageNet's mean and std.

    Returns:
        Mean cosines: ``cls``, ``visible`` and ``masked`` to the teacher; ``mean token``, what one and the
        same token would reach on the masked ones; ``masked alike`` and ``teacher alike``, between two masked
        patches of the student's and of the teacher's.
    """
    rgb = np.asarray(batch.student)[:images]
    mask = np.asarray(batch.mask)[:images].astype(bool)
    target = _array(teacher.targets(batch.teacher[:images]))
    predicted = _predicted(model, rgb, mask, normalise or _imagenet)
    target, predicted = _unit(target), _unit(predicted)
    cosine = (predicted * target).sum(axis=2)
    with new_file(Path(path), overwrite=True) as temporary, house_style():
        figure = _figure(rgb, mask, cosine, target[:, 1:], predicted[:, 1:], title)
        figure.savefig(temporary, format="png", dpi=_DPI, facecolor=_PAPER)
    return _told(mask, cosine, target[:, 1:], predicted[:, 1:])


def _told(mask: Mask, cosine: Floats, target: Floats, predicted: Floats) -> dict[str, float]:
    told = {"cls": float(cosine[:, 0].mean())}
    if (~mask).any():
        told["visible"] = float(cosine[:, 1:][~mask].mean())
    if mask.any():
        hidden = target[mask]
        told |= {
            "masked": float(cosine[:, 1:][mask].mean()),
            "mean token": float(np.linalg.norm(hidden.mean(axis=0))),
            "masked alike": _alike(predicted[mask]),
            "teacher alike": _alike(hidden),
        }
    return told


def _alike(unit: Floats) -> float:
    """Return the mean cosine of two different rows (n, D) of unit length."""
    n, total = len(unit), unit.sum(axis=0, dtype=np.float64)
    return float((total @ total - n) / (n * (n - 1))) if n > 1 else 1.0


def _predicted(model: Predicts, rgb: Pixels, mask: Mask, normalise: Any) -> Floats:
    device = next(model.parameters()).device
    with _evaluating(model), torch.inference_mode():
        pixels = normalise(torch.from_numpy(np.ascontiguousarray(rgb)).to(device))
        return _array(model(pixels, torch.from_numpy(mask)))


@contextmanager
def _evaluating(model: Predicts) -> Iterator[None]:
    was = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was)


def _imagenet(rgb: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], device=rgb.device)
    pixels: torch.Tensor = (rgb.float() / 255 - mean) / std
    return pixels.movedim(-1, -3).contiguous()


def _array(tokens: Any) -> Floats:
    if isinstance(tokens, torch.Tensor):
        tokens = tokens.float().cpu().numpy()
    return np.asarray(tokens, dtype=np.float32)


def _unit(tokens: Floats) -> Floats:
    length = np.linalg.norm(tokens, axis=-1, keepdims=True)
    return np.asarray(tokens / np.where(length > 0, length, 1), dtype=np.float32)


def _colours(target: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Return both as RGB (n, N, 3) in 0 … 1, by the three main directions of the first."""
    rows = target.reshape(-1, target.shape[-1]).astype(np.float64)
    mean = rows.mean(axis=0)
    _, _, axes = np.linalg.svd(rows - mean, full_matrices=False)
    three = np.zeros((3, rows.shape[1]))
    three[: min(3, len(axes))] = axes[:3]
    # A direction and its opposite are one: the sign is that of the largest entry, so that pictures compare.
    three *= np.sign(three[np.arange(3), np.abs(three).argmax(axis=1)] + 1e-30)[:, None]
    low, high = np.percentile((rows - mean) @ three.T, [1, 99], axis=0)
    width = np.where(high > low, high - low, 1)

    def colour(tokens: Floats) -> Floats:
        seen: Floats = np.clip((((tokens - mean) @ three.T) - low) / width, 0, 1).astype(np.float32)
        return seen

    return colour(target), colour(predicted)


def _figure(rgb: Pixels, mask: Mask, cosine: Floats, target: Floats, predicted: Floats, title: str) -> Figure:
    n, side = len(rgb), round(mask.shape[1] ** 0.5)
    height = _TOP + n * (_CELL + _BENEATH) + _FOOT
    figure = Figure(figsize=(_WIDTH, height))
    FigureCanvasAgg(figure)
    theirs, ours = _colours(target, predicted)
    shown: ScalarMappable | None = None
    for row in range(n):
        squares = mask[row].reshape(side, side)
        bottom = height - _TOP - (row + 1) * _CELL - row * _BENEATH
        cells = [_cell(figure, column, bottom, height) for column in range(5)]
        cells[0].imshow(rgb[row])
        cells[1].imshow(_hidden(rgb[row], squares))
        scale = Normalize(0, 1)
        shown = cells[2].imshow(cosine[row, 1:].reshape(side, side), cmap=_cividis(), norm=scale)
        cells[3].imshow(theirs[row].reshape(side, side, 3))
        cells[4].imshow(ours[row].reshape(side, side, 3))
        for one in cells[2:]:
            one.add_collection(LineCollection(_outline(squares), colors=_EDGE, linewidths=1.1))
        under = {1: f"{int(squares.sum())} of {squares.size} hidden", 2: _means(cosine[row, 1:], mask[row])}
        for column, text in under.items():
            cells[column].text(
                0.5,
                -0.035,
                text,
                transform=cells[column].transAxes,
                ha="center",
                va="top",
                color=_FAINT,
                size=9,
            )
        if row == 0:
            for one, heading in zip(cells, _COLUMNS, strict=True):
                one.set_title(heading, color=_TEXT, fontsize=10.5, pad=5)
    if title:
        figure.text(_SIDE / _WIDTH, 1 - 0.13 / height, title, color=_TEXT, size=11, va="top", weight="bold")
    if shown is not None:
        _scale(figure, shown, height)
    return figure


def _cell(figure: Figure, column: int, bottom: float, height: float) -> Axes:
    left = _SIDE + column * (_CELL + _GAP)
    axes = figure.add_axes((left / _WIDTH, bottom / height, _CELL / _WIDTH, _CELL / height))
    axes.set_axis_off()
    return axes


def _hidden(rgb: Pixels, squares: Mask) -> Pixels:
    """Return the image with the paper's grey, a little lighter, where patches are masked."""
    each = rgb.shape[0] // squares.shape[0]
    over = np.kron(squares, np.ones((each, each), dtype=bool))
    shown = rgb.copy()
    shown[: over.shape[0], : over.shape[1]][over] = (110, 117, 126)
    return shown


def _means(cosine: Floats, mask: Mask) -> str:
    parts = [("visible", cosine[~mask]), ("masked", cosine[mask])]
    return "   ".join(f"{name} {values.mean():.2f}" for name, values in parts if len(values))


def _outline(squares: Mask) -> list[list[tuple[float, float]]]:
    """Return the lines between masked and visible patches, in the coordinates of ``imshow``."""
    lines = []
    down, across = squares.shape
    for i in range(down):
        for j in range(across):
            if j + 1 < across and squares[i, j] != squares[i, j + 1]:
                lines.append([(j + 0.5, i - 0.5), (j + 0.5, i + 0.5)])
            if i + 1 < down and squares[i, j] != squares[i + 1, j]:
                lines.append([(j - 0.5, i + 0.5), (j + 0.5, i + 0.5)])
    return lines


def _scale(figure: Figure, shown: ScalarMappable, height: float) -> None:
    left = _SIDE + 2 * (_CELL + _GAP)
    axes = figure.add_axes((left / _WIDTH, 0.45 / height, _CELL / _WIDTH, 0.12 / height))
    bar: Colorbar = figure.colorbar(shown, cax=axes, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.set_ticklabels(["0", "0.5", "1"])
    bar.outline.set_visible(False)
    axes.tick_params(colors=_FAINT, labelcolor=_FAINT, length=2, labelsize=8.5)
    figure.text(
        _SIDE / _WIDTH,
        0.5 / height,
        "White lines: edges of what is hidden.",
        color=_FAINT,
        size=9,
        va="center",
    )
    figure.text(
        (_SIDE + 3 * (_CELL + _GAP)) / _WIDTH,
        0.5 / height,
        "Colours: the teacher’s three main directions, for both.",
        color=_FAINT,
        size=9,
        va="center",
    )


def _cividis() -> Colormap:
    from matplotlib import colormaps

    return colormaps["cividis"]
