"""How well embeddings predict what they should not need: source, device, site, ruler, ink."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column, in_order, read_column, whole_numbers
from panderm.errors import DataError, UsageError, did_you_mean
from panderm.gate.candidates import Candidate, candidate, is_identifier
from panderm.gate.cross_validated import DRAWS, Auroc, aurocs, column_scores, folds_of, usable_classes
from panderm.progress import Progress
from panderm.statistics.resampling import cluster_codes
from panderm.training.linear_probe import LinearProbe

# How an image was made, not what is in it: a model that leans on these fails elsewhere.
# Names are matched from the beginning of a word on; those that end in $ are whole words.
TECHNICAL = re.compile(
    r"(^|[^a-z])(source|data_?set|institut|hospital|clinic([^a]|$)|cent(er|re)|attribution|contributor|archive"
    r"|device|camera|scanner|dermoscop|machine|microscop|vendor|manufactur|model([^a-z]|$)|tfrec|image_?type"
    r"|modality|hair|ruler|ink([^a-z]|$)|pen_?mark|marking|gel([^a-z]|$)|bubble|dark_?corner|vignett|blur"
    r"|low_?contrast|contrast|non_?skin|artefact|artifact|sticker|patch([^a-z]|$)|frame|flash|polari[sz])",
    re.IGNORECASE,
)
# Who and where: in the picture by nature, and still worth knowing.
PERSONAL = re.compile(
    r"(^|[^a-z])(sex|gender|age|tone|ita|skin_?type|race|ethnicity|site)([^a-z]|$)"
    r"|fit[sz]+patrick|anatom|locali[sz]ation|location|region|body|laterality",
    re.IGNORECASE,
)
_FACTS = (
    "width",
    "height",
    "aspect",
    "bytes per pixel",
    "JPEG quality",
    "format",
    "mode",
    "camera",
    "software",
)
# By the lower end of the interval: seen in the pixels, and tied to the label.
SEEN, TIED = 0.70, 0.60
MOST_ROWS = 5000
MOST_LEVELS = 20
BANDS = 3


@dataclass(frozen=True)
class Shortcut:
    """One column: whether it can be read from the embeddings, and whether it goes with the label.

    Attributes:
        name: of the column, or ``file: width``.
        technical: whether it says how the image was made rather than who is in it.
        levels: how many rows of each level that was told apart.
        seen: cross-validated AUROC of a linear probe from embeddings to this column; guessing gives 0.5.
        tied: cross-validated AUROC of this column alone for the label; None where there is no label.
        could_matter: whether both are above chance: seen above .70, tied above .60, by their lower ends.
        sentence: all this for a reader.
    """

    name: str
    technical: bool
    levels: dict[str, int]
    seen: Auroc
    tied: Auroc | None
    could_matter: bool
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Return what the JSON holds."""
        return {
            "name": self.name,
            "technical": self.technical,
            "levels": dict(self.levels),
            "seen": self.seen.as_dict(),
            "tied": None if self.tied is None else self.tied.as_dict(),
            "could_matter": self.could_matter,
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class ShortcutProbe:
    """What the embeddings know.

    Attributes:
        encoder: whose embeddings they are.
        rows: how many were used.
        columns: what was probed, what could matter first.
        not_probed: columns that look like shortcuts and could not be probed, and why.
    """

    encoder: str
    rows: int
    columns: tuple[Shortcut, ...]
    not_probed: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return what the JSON holds."""
        return {
            "encoder": self.encoder,
            "rows": self.rows,
            "columns": [one.as_dict() for one in self.columns],
            "not_probed": dict(self.not_probed),
        }


def probe_shortcuts(
    vectors: npt.NDArray[np.float32],
    frame: pd.DataFrame,
    *,
    encoder: str,
    label: str | None = None,
    patient: str | None = None,
    group: str | None = None,
    columns: Sequence[str] | None = None,
    facts: Mapping[str, Column] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = False,
) -> ShortcutProbe:
    """Ask embeddings for columns that a diagnosis should not need.

    For each column a linear probe (:class:`panderm.LinearProbe`, tuned) is fitted on four fifths of the rows
    and scored on the rest, five times, patients (or lesions) never torn; its strength is chosen once, on the
    first four fifths. Columns of many numbers are cut into three bands of equal size. Levels of fewer than 10
    rows or 5 patients are left out; an empty cell is no level here. Of more than 5,000 rows, whole patients
    are drawn until there are so many.

    Args:
        vectors: float32 (n, D), of the same rows as ``frame``.
        frame: the cells as strings.
        encoder: its name.
        label: column with the class, to see which columns are tied to it.
        patient: column that says who is in the picture.
        group: column that says which lesion it is.
        columns: which to ask for; by default those whose names say source, device, artefact, site, sex, age
            or skin tone, and the facts of the files.
        facts: of the files, by name, (n,) strings or None.
        draws: of the bootstrap.
        seed: of the folds, of the rows drawn and of the bootstrap.
        progress: show progress on standard error.

    Raises:
        UsageError: a column that is not there.
        DataError: no column to ask for.
    """
    chosen = _columns(frame, columns, label, {x for x in (patient, group) if x}, facts or {})
    units, unit = cluster_codes(read_column(frame, patient), read_column(frame, group), len(frame))
    rows = _drawn(units, seed)
    labels = whole_numbers(read_column(frame, label))
    found, silent = [], {}
    with Progress(len(chosen), "what the embeddings know", "columns", shown=progress) as bar:
        for one in chosen:
            made = _probed(
                one, vectors, labels if label else None, units, unit, rows, draws, seed, label or ""
            )
            if isinstance(made, str):
                silent[one.name] = made
            else:
                found.append(made)
            bar.advance()
    found.sort(key=lambda one: (not one.could_matter, -(one.seen.value or 0)))
    return ShortcutProbe(encoder, int(rows.sum()), tuple(found), silent)


def _columns(
    frame: pd.DataFrame,
    asked: Sequence[str] | None,
    label: str | None,
    named: set[str],
    facts: Mapping[str, Column],
) -> list[Candidate]:
    names = list(dict.fromkeys(frame.columns))
    if asked is not None:
        require_columns(frame, asked)
        return [candidate(name, "column", read_column(frame, name)) for name in asked]
    chosen = []
    for name in names:
        values = read_column(frame, name)
        wanted = TECHNICAL.search(name) or PERSONAL.search(name)
        if wanted and name != label and name not in named and not is_identifier(name, values):
            chosen.append(candidate(name, "column", values))
    chosen += [candidate(f"file: {n}", "file", values) for n, values in facts.items() if n in _FACTS]
    chosen = [one for one in chosen if len({v for v in one.values if v is not None}) > 1]
    if not chosen:
        raise DataError(
            "a shortcut must stand in a column to be looked for.",
            "no column of the table speaks of source, device, artefact, site, sex, age or skin tone",
            "name columns with --shortcut-columns, or add some with: panderm artefacts",
        )
    return chosen


def require_columns(frame: pd.DataFrame, asked: Sequence[str] | None) -> None:
    """Raise :class:`UsageError` where a column that was asked for is not there once."""
    names = list(frame.columns)
    for name in asked or ():
        if names.count(name) != 1:
            raise UsageError(
                f"--shortcut-columns must name columns of the table{did_you_mean(name, set(names) - {name})}",
                f"found {name!r}; the table has: {', '.join(names)}",
            )
    if asked is not None and not asked:
        raise UsageError("--shortcut-columns must name a column or more.", "found none")


def _drawn(units: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.bool_]:
    """Return bool (n,): all rows, or whole units drawn until there are :data:`MOST_ROWS`."""
    if len(units) <= MOST_ROWS:
        return np.ones(len(units), dtype=bool)
    sizes = np.bincount(units)
    order = np.random.default_rng(seed).permutation(len(sizes))
    kept = order[np.cumsum(sizes[order]) <= MOST_ROWS]
    return np.isin(units, kept)


def _probed(
    one: Candidate,
    vectors: npt.NDArray[np.float32],
    labels: Column | None,
    units: npt.NDArray[np.int64],
    unit: str,
    rows: npt.NDArray[np.bool_],
    draws: int,
    seed: int,
    label: str,
) -> Shortcut | str:
    levels = whole_numbers(_banded(one))
    names = in_order({v for v in levels[rows] if v is not None})
    place = {name: i for i, name in enumerate(names)}
    every = np.array([place.get(v, -1) for v in levels], dtype=np.int64)
    every[~rows] = -1
    kept = usable_classes(every, units)
    if len(kept) < 2:
        return f"fewer than two values have 10 rows of 5 {unit}s"
    if len(kept) > MOST_LEVELS:
        return f"more than {MOST_LEVELS} values to tell apart"
    used = np.isin(every, kept)
    codes = np.searchsorted(kept, every[used]).astype(np.int64)
    clusters = np.unique(units[used], return_inverse=True)[1].astype(np.int64)
    folds = folds_of(codes, clusters, seed)
    if folds is None:
        return f"too few {unit}s to cross-validate"
    scores = _embedding_scores(vectors[used], codes, folds, clusters, len(kept), seed)
    seen = aurocs({"": scores}, codes, folds, clusters, unit, draws=draws, seed=seed)[""]
    tied = None if labels is None else _tied(one, labels, units, unit, draws, seed)
    technical = one.source == "file" or TECHNICAL.search(one.name) is not None
    matters = (seen.low or 0) > SEEN and tied is not None and (tied.low or 0) > TIED
    counts = {names[c]: int((every == c).sum()) for c in kept}
    return Shortcut(
        one.name, technical, counts, seen, tied, matters, _sentence(one.name, seen, tied, label, matters)
    )


def _banded(one: Candidate) -> Column:
    """Return levels as they are; many numbers as three bands of equal size, named by their ends."""
    if one.numbers is None:
        return one.values
    known = np.isfinite(one.numbers)
    cuts = np.unique(np.quantile(one.numbers[known], np.arange(1, BANDS) / BANDS))
    band = np.searchsorted(cuts, one.numbers, side="right")
    ends = [f"below {cuts[0]:g}", *(f"{a:g} to {b:g}" for a, b in itertools.pairwise(cuts))]
    ends.append(f"{cuts[-1]:g} and more")
    return np.array([ends[b] if k else None for b, k in zip(band, known, strict=True)], dtype=object)


def _embedding_scores(
    vectors: npt.NDArray[np.float32],
    codes: npt.NDArray[np.int64],
    folds: npt.NDArray[np.int64],
    clusters: npt.NDArray[np.int64],
    n_classes: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    scores = np.zeros((len(codes), n_classes))
    strength = None
    for f in np.unique(folds):
        learned = folds != f
        probe = LinearProbe(C=strength, seed=seed)
        probe.fit(vectors[learned], codes[learned], groups=clusters[learned])
        strength = probe.C_
        scores[np.ix_(~learned, probe.classes_)] = probe.predict_proba(vectors[~learned])
    return scores


def _tied(
    one: Candidate, labels: Column, units: npt.NDArray[np.int64], unit: str, draws: int, seed: int
) -> Auroc | None:
    """Return how well this column alone predicts the label, over all rows that have one."""
    place = {c: i for i, c in enumerate(in_order({x for x in labels if x is not None}))}
    every = np.array([place.get(x, -1) for x in labels], dtype=np.int64)
    kept = usable_classes(every, units)
    rows = np.isin(every, kept)
    codes = np.searchsorted(kept, every[rows]).astype(np.int64)
    clusters = np.unique(units[rows], return_inverse=True)[1].astype(np.int64)
    folds = folds_of(codes, clusters, seed) if len(kept) > 1 else None
    if folds is None:
        return None
    scores = column_scores(one.select(rows), codes, folds, len(kept))
    return aurocs({"": scores}, codes, folds, clusters, unit, draws=draws, seed=seed)[""]


def _sentence(name: str, seen: Auroc, tied: Auroc | None, label: str, matters: bool) -> str:
    told = f"the embeddings predict {name} with {seen}"
    if tied is not None and tied.value is not None:
        told += f", and {name} alone predicts {label} with {tied}"
    if matters:
        told += ": a probe could lean on it instead of the lesion"
    return told
