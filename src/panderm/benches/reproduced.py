"""The published evaluation on this machine: what is here, what differs or is missing, ours beside theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panderm.benches.asked import AskedDataset, AskedEncoder, read_datasets
from panderm.benches.cells import in_a_line
from panderm.benches.compared import Column
from panderm.benches.published import NINE, Number, PublishedDataset, PublishedSplit
from panderm.data.columns import read_cells, whole_number
from panderm.data.table import read_rows
from panderm.errors import PandermError, TableError, plural
from panderm.predictions import Predictions
from panderm.scores import Score
from panderm.weights.cache import held

ENCODER = "panderm-large"
# The published log counts 8,207 training rows where the released table has 8,208.
_NEAR = 0.01
_IMAGES = ("", "images")


@dataclass(frozen=True)
class Looked:
    """One of the nine on this machine.

    Attributes:
        published: what was published of it.
        asked: how its table here is read; None where none was found.
        looked: where it was looked for, where none was found.
        differences: what differs from the published split that is nearest.
        split: the published split whose test rows these are; None where they are none.
        why_not: why its scores cannot be held against the published ones.
    """

    published: PublishedDataset
    asked: AskedDataset | None
    looked: str = ""
    differences: tuple[str, ...] = ()
    split: PublishedSplit | None = None
    why_not: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain text, numbers and lists."""
        one = self.published
        return {
            "name": one.name,
            "found": None if self.asked is None else str(self.asked.csv or self.asked.embeddings),
            "looked": self.looked,
            "classes": one.classes,
            "images": one.images,
            "score": one.score,
            "differences": list(self.differences),
            "published_split": self.split.name if self.split else None,
            "not_compared": self.why_not or None,
            "get": f"panderm data show {one.data}",
            "published": [
                {"split": split.name, "rows": dict(split.rows), **vars(number)}
                for split in one.splits
                for number in split.numbers
            ],
        }


@dataclass(frozen=True)
class Reproduced:
    """A published number beside ours.

    Attributes:
        dataset: its name.
        encoder: ours, by the name its row has.
        number: what was published.
        ours: on the same test rows; None where there is none.
        why_not: why there is none.
    """

    dataset: str
    encoder: str
    number: Number
    ours: Score | None
    why_not: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the published one."""
        return None if self.ours is None or self.ours.value is None else self.ours.value - self.number.value

    @property
    def inside(self) -> bool | None:
        """Whether the published value lies in our interval; None where there is no interval."""
        if self.ours is None or self.ours.low is None or self.ours.high is None:
            return None
        return self.ours.low <= self.number.value <= self.ours.high


def look(*, tables: Path | str | None = None, data: Path | str | None = None) -> list[Looked]:
    """Look for the nine datasets in a table of datasets and in a folder, and compare their rows.

    No image is opened.

    Args:
        tables: as of :func:`panderm.benchmark`; a row counts whose name is one of the nine.
        data: folder with ``NAME.csv``, or a folder ``NAME`` that holds one table with columns ``image`` and
            ``split``; images lie beside the table or in ``images/``.
    """
    rows = {} if tables is None else {_plain(one.name): one for one in read_datasets(tables)}
    if data is not None and not Path(data).is_dir():
        raise TableError("--data must be a folder.", f"found none: {data}")
    found = []
    for published in NINE:
        names = dict.fromkeys((published.name, published.data))
        asked = next((rows[_plain(name)] for name in names if _plain(name) in rows), None)
        looked = [] if tables is None else [f"no row {published.name} in {tables}"]
        if asked is None and data is not None:
            asked, where = _in_folder(published, Path(data))
            looked.append(where)
        if asked is None:
            found.append(Looked(published, None, "; ".join(looked) or "name its folder with --data"))
        else:
            found.append(_compared(published, asked))
    return found


def asked_of(looked: Sequence[Looked]) -> list[AskedDataset]:
    """Return those that were found."""
    return [one.asked for one in looked if one.asked is not None]


def no_encoder() -> AskedEncoder:
    """Return the encoder of the paper, with the weights that were downloaded."""
    return AskedEncoder(ENCODER, encoder=ENCODER)


def weights_missing() -> str | None:
    """Say how to get the paper's weights, where they are not in the cache; None where they are."""
    try:
        if held(ENCODER) is not None:
            return None
    except PandermError as error:
        return in_a_line(error)
    return f"the weights of {ENCODER} are not here: panderm models pull {ENCODER}, or name them in --encoders"


def compare_published(columns: Sequence[Column]) -> tuple[Reproduced, ...]:
    """Put every published number beside ours, where ours are of the same encoder and the same test rows."""
    found = []
    for column in columns:
        published = _named(column.dataset)
        if published is None:
            continue
        for cell in column.cells:
            given, numbers = cell.predictions, [n for split in published.splits for n in split.numbers]
            if given is None or cell.scores is None:
                found += [
                    Reproduced(published.name, cell.encoder, n, None, cell.problem or "not made")
                    for n in numbers
                    if n.encoder == cell.encoder
                ]
                continue
            name = given.card.made_of("A benchmark").encoder.name
            train = Counter(given.card.made_of("A benchmark").table.counts.get("train", {}))
            split, why = _split_of(published, _test_rows(given), train, given.card.split)
            for number in numbers:
                if number.encoder != name or number.score not in cell.scores.scores:
                    continue
                same = split is not None and number in split.numbers
                ours = cell.scores.scores[number.score] if same else None
                reason = "" if same else why or "another of its splits"
                found.append(Reproduced(published.name, cell.encoder, number, ours, reason))
    return tuple(found)


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _named(name: str) -> PublishedDataset | None:
    return next((one for one in NINE if _plain(name) in (_plain(one.name), _plain(one.data))), None)


def _in_folder(published: PublishedDataset, data: Path) -> tuple[AskedDataset | None, str]:
    """Return how a dataset's table in a folder is read, or where it was looked for."""
    names = list(dict.fromkeys((published.name, published.data)))
    for name in names:
        tables = [data / f"{name}.csv", data / name / f"{name}.csv"]
        chosen = next((file for file in tables if file.is_file()), None)
        if chosen is None and (data / name).is_dir():
            held_there = [file for file in sorted((data / name).glob("*.csv")) if _has_splits(file)]
            if len(held_there) > 1:
                several = ", ".join(file.name for file in held_there)
                return None, f"{data / name} holds several tables: {several}; call the one {name}.csv"
            chosen = held_there[0] if held_there else None
        if chosen is not None:
            frame = read_cells(chosen)
            label = next((column for column in published.labels if column in frame.columns), None)
            first = str(frame["image"].iloc[0]) if "image" in frame.columns else ""
            folders = [chosen.parent / below for below in _IMAGES]
            images = next((folder for folder in folders if (folder / first).is_file()), None)
            return AskedDataset(published.name, chosen, images=images, label=label), ""
    return None, f"no {names[0]}.csv and no folder {' or '.join(names)} with a table in {data}"


def _has_splits(file: Path) -> bool:
    try:
        return {"image", "split"} <= set(read_cells(file).columns)
    except PandermError:
        return False


def _compared(published: PublishedDataset, asked: AskedDataset) -> Looked:
    """Hold a table's rows, by split and class, against the published ones."""
    if asked.csv is None:
        return Looked(published, asked, why_not="its rows are known by its embeddings only")
    try:
        rows = read_rows(
            asked.csv,
            images=asked.images,
            image_column=asked.image_column,
            label=asked.label,
            split_column=asked.split_column,
            patient=asked.patient,
            group=asked.group,
        )
    except PandermError as error:
        return Looked(published, asked, why_not=in_a_line(error))
    columns = rows.columns
    by_split: dict[str, Counter[str]] = {}
    for part, label in zip(columns["split"], columns["label"], strict=True):
        by_split.setdefault(part or "without a split", Counter())[whole_number(label) or ""] += 1
    total, classes = len(rows), {c for counter in by_split.values() for c in counter if c}
    told = []
    if total != published.images:
        told.append(f"{plural(total, 'row')}; the paper counts {published.images:,}")
    if len(classes) != published.classes:
        told.append(f"{len(classes)} classes; published: {published.classes}")
    if not published.splits:
        why = "no number was published for its test rows"
        return Looked(published, asked, differences=tuple(told), why_not=why)
    differ = {split.name: _differences(published, split, by_split) for split in published.splits}
    nearest = min(published.splits, key=lambda split: len(differ[split.name]))
    split, why = _split_of(published, by_split.get(asked.test, Counter()), by_split.get("train"), asked.test)
    return Looked(
        published,
        asked,
        differences=(*told, *differ[nearest.name]),
        split=split,
        why_not=why,
    )


def _differences(
    published: PublishedDataset, split: PublishedSplit, found: dict[str, Counter[str]]
) -> list[str]:
    told = []
    for name, rows in split.rows.items():
        here = found.get(name, Counter())
        counts, ours = split.per_class.get(name), _by_class(published, here)
        classes = ""
        if here and counts is not None and ours is None:
            classes = f"its classes are called {', '.join(sorted(here))}"
        elif here and counts is not None and ours is not None:
            pairs = zip(published.class_names, ours, counts, strict=True)
            classes = ", ".join(
                f"{called} {one:,} ({other:,})" for called, one, other in pairs if one != other
            )
        if here.total() != rows or classes:
            of = f" (as in {split.name}: {rows:,})"
            told.append(f"{name}: {plural(here.total(), 'row')}{of}" + (f"; {classes}" if classes else ""))
    return told


def _by_class(published: PublishedDataset, found: Counter[str]) -> tuple[int, ...] | None:
    """Return rows in the published order of classes, which may be called by name or by code."""
    for names in (published.class_names, [str(i) for i in range(len(published.class_names))]):
        order = [name.casefold() for name in names]
        if order and {label.casefold() for label in found} <= set(order):
            folded: Counter[str] = Counter()
            for label, n in found.items():
                folded[label.casefold()] += n
            return tuple(folded[name] for name in order)
    return None


def _split_of(
    published: PublishedDataset, test: Counter[str], train: Counter[str] | None = None, called: str = "test"
) -> tuple[PublishedSplit | None, str]:
    """Return the published split whose test rows these are, class by class, or why they are of none."""
    if not published.splits:
        return None, "no number was published for its test rows"
    for split in published.splits:
        counts = split.per_class.get("test")
        same = test.total() == split.rows.get("test")
        if not same or (counts is not None and _by_class(published, test) != counts):
            continue
        rows = split.rows.get("train")
        if train is not None and rows is not None and abs(train.total() - rows) > _NEAR * rows:
            return None, f"its training rows are not the published ones: {train.total():,}, not {rows:,}"
        return split, ""
    wanted = " or ".join(f"{split.rows['test']:,} ({split.name})" for split in published.splits)
    found = f"its {called} rows are {test.total():,}" if test.total() else f"it has no {called} rows"
    return None, f"not the published split: {found}, published are {wanted}, class by class"


def _test_rows(given: Predictions) -> Counter[str]:
    return Counter(str(name) for name in given.truth)
