"""The two tables of a benchmark, a row a dataset and a row an encoder, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from panderm.data.columns import read_cells
from panderm.embeddings import Engine
from panderm.errors import TableError, did_you_mean
from panderm.models.cards import Pool
from panderm.models.precision import PrecisionChoice
from panderm.storage import in_a_path

TABLE_COLUMNS = {
    "name": "what the dataset is called, in every table and as a folder",
    "csv": "its table, a row an image",
    "images": "the folder of its images; default: the table's own",
    "image_column": "as of panderm embed; default: image",
    "label": "likewise",
    "split_column": "likewise; default: split",
    "patient": "likewise",
    "group": "likewise",
    "classes": "likewise: a,b,c; of two, the second is the positive one",
    "test": "the split that is scored; default: test",
    "skip_bad": "yes: leave out rows without a readable image or a label",
    "embeddings": "embeddings that exist already; {encoder} stands for the encoder's name",
}
ENCODER_COLUMNS = {
    "name": "what the encoder is called, in every table and as a folder",
    "encoder": "as of panderm embed",
    "weights": "its weights file, where it needs one",
    "card": "the card of an encoder of your own",
    "pool": "cls or mean",
    "image_size": "side of the input in pixels",
    "precision": "fp32, bf16, fp16, int8 or auto",
    "engine": "torch or openvino",
}


@dataclass(frozen=True)
class AskedDataset:
    """One dataset: its table and roles as of :func:`panderm.read_table`, and the split that is scored."""

    name: str
    csv: Path | None
    images: Path | None = None
    image_column: str = "image"
    label: str | None = None
    split_column: str = "split"
    patient: str | None = None
    group: str | None = None
    classes: tuple[str, ...] | None = None
    test: str = "test"
    skip_bad: bool = False
    embeddings: str | None = None

    def embedded(self, encoder: str) -> Path | None:
        """Return the folder of existing embeddings by an encoder; None where there is none."""
        if self.embeddings is None:
            return None
        folder = Path(self.embeddings.replace("{encoder}", encoder))
        return folder if folder.exists() else None


@dataclass(frozen=True)
class AskedEncoder:
    """One encoder, as of :func:`panderm.load_encoder`."""

    name: str
    encoder: str | None = None
    weights: Path | str | None = None
    card: Path | None = None
    pool: Pool | None = None
    image_size: int | None = None
    precision: PrecisionChoice = "fp32"
    engine: Engine = "torch"

    @property
    def known_by_folders_only(self) -> bool:
        """Whether nothing says what it is but the embeddings it made."""
        return self.encoder is None and self.weights is None and self.card is None


def read_datasets(path: Path | str) -> list[AskedDataset]:
    """Read ``tables.csv``: a row a dataset, columns as of ``TABLE_COLUMNS``; paths are relative to the file.

    Raises:
        TableError: columns that are not known, names missing or twice, or values that cannot be.
    """
    found = []
    for row, cells, at in _rows(Path(path), TABLE_COLUMNS):
        if "csv" not in cells and "embeddings" not in cells:
            raise TableError(
                "every dataset must have a table.",
                f"row {row} of {path}, {cells['name']}: neither csv nor embeddings",
            )
        classes = cells.get("classes")
        found.append(
            AskedDataset(
                name=cells["name"],
                csv=at(cells.get("csv")),
                images=at(cells.get("images")),
                image_column=cells.get("image_column", "image"),
                label=cells.get("label"),
                split_column=cells.get("split_column", "split"),
                patient=cells.get("patient"),
                group=cells.get("group"),
                classes=tuple(c.strip() for c in classes.split(",")) if classes else None,
                test=cells.get("test", "test"),
                skip_bad=_one_of(row, path, "skip_bad", cells.get("skip_bad", "no"), ("yes", "no")) == "yes",
                embeddings=None if "embeddings" not in cells else str(at(cells["embeddings"])),
            )
        )
    return found


def read_encoders(path: Path | str) -> list[AskedEncoder]:
    """Read ``encoders.csv``: a row an encoder, columns as of ``ENCODER_COLUMNS``; paths relative to the file.

    Raises:
        TableError: as of :func:`read_datasets`.
    """
    found = []
    for row, cells, at in _rows(Path(path), ENCODER_COLUMNS):
        size = cells.get("image_size")
        if size is not None and not size.isdecimal():
            raise _wrong(row, path, "image_size", size, "a whole number of pixels")

        def one_of(name: str, options: Any, default: Any, row: int = row, cells: Any = cells) -> Any:
            return _one_of(row, path, name, cells[name], get_args(options)) if name in cells else default

        name = cells.get("encoder")
        beside = at(name)  # a file that panderm convert wrote
        found.append(
            AskedEncoder(
                name=cells["name"],
                encoder=str(beside) if beside is not None and beside.is_file() else name,
                weights=at(cells.get("weights")),
                card=at(cells.get("card")),
                pool=one_of("pool", Pool, None),
                image_size=None if size is None else int(size),
                precision=one_of("precision", PrecisionChoice, "fp32"),
                engine=one_of("engine", Engine, "torch"),
            )
        )
    return found


def require_distinct(names: Sequence[str], noun: str, where: str) -> None:
    """Raise :class:`TableError` where two names are the same, as a name or as a folder."""
    seen: dict[str, str] = {}
    for name in names:
        folder = in_a_path(name).casefold()
        if not folder or folder in seen:
            raise TableError(
                f"every {noun} must have a name of its own, also as a folder.",
                f"{where}: {seen[folder]!r} and {name!r}" if folder in seen else f"{where}: {name!r}",
                "rename one of them in its name column" if folder else "use letters or digits",
            )
        seen[folder] = name


def _rows(
    path: Path, known: Mapping[str, str]
) -> list[tuple[int, dict[str, str], Callable[[str | None], Path | None]]]:
    """Return each row's number, its cells that are not empty, and what makes its paths."""
    frame = read_cells(path)
    columns = [str(name) for name in frame.columns]
    strange = [name for name in columns if name not in known]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if strange or twice or "name" not in columns:
        lines = [f"{name!r} is none of its columns{did_you_mean(name, known)}" for name in strange]
        lines += [f"{name!r} is there twice" for name in twice]
        lines += [] if "name" in columns else ["column 'name' is missing"]
        raise TableError(
            f"{path.name} must have columns that a benchmark knows.", lines, f"known: {', '.join(known)}"
        )

    def at(text: str | None) -> Path | None:
        return None if text is None else path.parent / Path(text).expanduser()

    found: list[tuple[int, dict[str, str], Callable[[str | None], Path | None]]] = []
    for row, values in zip(frame.index, frame.itertuples(index=False), strict=True):
        cells = {name: str(v).strip() for name, v in zip(columns, values, strict=True) if str(v).strip()}
        if "name" not in cells:
            raise TableError("every row must have a name.", f"row {row} of {path} has none")
        found.append((int(row), cells, at))
    require_distinct([cells["name"] for _, cells, _ in found], "row", path.name)
    return found


def _one_of(row: int, path: Path | str, column: str, value: str, options: Sequence[str]) -> str:
    if value not in options:
        raise _wrong(row, path, column, value, f"one of {', '.join(options)}{did_you_mean(value, options)}")
    return value


def _wrong(row: int, path: Path | str, column: str, value: str, must: str) -> TableError:
    return TableError(f"{column} must be {must}.", f"row {row} of {path}: {value!r}")
