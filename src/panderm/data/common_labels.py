"""Classes of two tables under common names: by their names, the diagnosis map, or a map of the user's own."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.data.diagnoses import SAME_WORDS, Indeterminate, Level, find, map_labels, taxonomies, taxonomy_of
from panderm.errors import DataError, TableError, UsageError, did_you_mean, plural, some

_RISK = {"benign": 0, "": 1, "indeterminate": 2, "malignant": 3}


@dataclass(frozen=True, eq=False)
class CommonLabels:
    """Two tables' classes under common names.

    Attributes:
        classes: the common names, K of them, in order; of two the malignant one is the second, where known.
        place: int (T,), for each trained class its position in ``classes``, −1 where it is left out.
        labels: (n,) of the other table, as they were.
        truth: (n,) the common name of each label of the other table, None where it is left out.
        left_out: by label of the other table, its rows and why no answer of the probe can be right.
        absent: trained classes (common names) of which the other table has no row, with what became of them.
        method: what was decided, for a card.
    """

    classes: tuple[str, ...]
    place: npt.NDArray[np.int64]
    labels: Column
    truth: Column
    left_out: dict[str, tuple[int, str]]
    absent: tuple[str, ...]
    method: dict[str, Any]

    def probabilities(self, trained: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], int]:
        """Return probabilities (n, K) of the common classes, of (n, T), and in how many rows they were all 0.

        Those of classes that are one under their common name are summed. Where classes are left out, the rest
        are divided by their sum; where that is 0, each is equally likely.
        """
        kept = self.place >= 0
        into = np.zeros((len(self.place), len(self.classes)))
        into[np.flatnonzero(kept), self.place[kept]] = 1
        summed = trained @ into
        total = summed.sum(axis=1, keepdims=True)
        none = total[:, 0] <= 0
        summed[none], total[none] = 1.0, len(self.classes)
        return summed / total, int(none.sum())


def common_labels(
    trained: Sequence[str],
    labels: Column,
    *,
    level: Level | None = None,
    taxonomy: str | None = None,
    test_taxonomy: str | None = None,
    indeterminate: Indeterminate = "keep",
    label_map: Mapping[str, str | None] | None = None,
    keep_absent: bool = False,
    names: tuple[str, str] = ("", ""),
) -> CommonLabels:
    """Bring the classes of a probe and the labels of another table under common names.

    Without a level, names must be the same but for letter case, spaces, hyphens and underscores. With one,
    both go through the diagnosis map; a trained class that the map does not answer keeps its own name. A map
    of the user's own goes before either.

    Args:
        trained: T classes that the probe was trained on, in their order.
        labels: (n,) of the other table.
        level: malignant, group or diagnosis.
        taxonomy: the dataset whose words ``trained`` are; by default the one that has them all.
        test_taxonomy: likewise of ``labels``.
        indeterminate: as of :func:`panderm.map_labels`.
        label_map: from labels of the other table to trained classes, or to their names at ``level``; None
            leaves a label out.
        keep_absent: keep classes of which the other table has no row; by default they are left out and the
            other probabilities divided by their sum, as long as two classes stay.
        names: where the two tables lie, which may tell whose words they hold.

    Raises:
        DataError: no label is a class of the probe.
        UsageError: labels of no known dataset, or of several that do not agree on them.
    """
    words: dict[str, str] = {}
    own = {c: c for c in trained}
    if level is not None:
        words["trained on"] = taxonomy or find_taxonomy(trained, level, names[0], "--taxonomy")
        answers = _mapped(trained, words["trained on"], level, indeterminate)
        own = {c: answers[c] or c for c in trained}
    elif taxonomy or test_taxonomy or indeterminate != "keep":
        raise UsageError(
            "the words of a dataset are looked up at a level.", "found no --level", "--level diagnosis"
        )
    counts = Counter(str(label) for label in labels)
    rest = [label for label in counts if label not in (label_map or {})]
    theirs: dict[str, str | None] = dict(label_map or {})
    if level is not None and rest:
        words["tested on"] = test_taxonomy or find_taxonomy(rest, level, names[1], "--test-taxonomy")
        theirs |= _mapped(rest, words["tested on"], level, indeterminate)
    else:
        by_key = {_key(c): c for c in trained}
        theirs |= {label: by_key.get(_key(label), label) for label in rest}
    learned = set(own.values())
    left_out = {
        label: (n, _why(theirs.get(label), level, mapped=label in (label_map or {})))
        for label, n in counts.most_common()
        if theirs.get(label) not in learned
    }
    truth = np.array([t if (t := theirs.get(str(x))) in learned else None for x in labels], dtype=object)
    present = {t for t in truth if t is not None}
    if not present:
        raise DataError(
            "the two tables must have a class in common.",
            [
                f"the probe was trained on: {some(list(dict.fromkeys(own.values())), 12)}",
                f"the other table has: {some([f'{label} ({n:,})' for label, n in counts.most_common()], 12)}",
            ],
            "match them through the diagnosis map with --level diagnosis, or name them with --label-map FILE",
        )
    every = sorted(learned) if level is not None else list(dict.fromkeys(own.values()))
    absent = tuple(c for c in every if c not in present)
    kept = every if keep_absent or len(present) < 2 else [c for c in every if c in present]
    if len(kept) == 2:
        kept.sort(key=lambda c: _risk(c, own, words.get("trained on"), level))
    place = np.array([kept.index(own[c]) if own[c] in kept else -1 for c in trained], dtype=np.int64)
    method: dict[str, Any] = {"labels matched": _how(level, words, label_map)}
    if level == "malignant" and indeterminate != "keep":
        method["indeterminate labels"] = indeterminate
    method["classes"] = {
        c: f"{some([t for t in trained if own[t] == c], 20)} ← "
        f"{some([label for label in counts if theirs.get(label) == c], 20) or 'no row'}"
        for c in kept
    }
    return CommonLabels(tuple(kept), place, labels, truth, left_out, absent, method)


def find_taxonomy(labels: Sequence[str], level: Level, name: str, option: str) -> str:
    """Return the dataset whose words some labels are, by the labels and by the table's place.

    Args:
        labels: different labels.
        level: at which their answers matter.
        name: the path of their table; a dataset that it names is preferred.
        option: with which the user can say it.

    Raises:
        UsageError: no dataset has all of them, or several do and answer differently.
    """
    having = [t for t in taxonomies() if all(find(label, t) is not None for label in labels)]
    if not having:
        known = {t: sum(find(label, t) is not None for label in labels) for t in taxonomies()}
        best = max(known, key=lambda t: known[t])
        lacks = [label for label in labels if find(label, best) is None]
        raise UsageError(
            "labels must be in the words of a known dataset.",
            f"no dataset has all of {some(list(labels), 12)}; {best} lacks {some(lacks)}",
            f"name the dataset with {option}: what it lacks is left out; or give --label-map FILE",
        )
    place = re.sub(r"[^a-z0-9]", "", name.casefold())
    aliases = {alias: t for alias, t in SAME_WORDS.items() if t in having} | {t: t for t in having}
    named = [t for alias, t in aliases.items() if re.sub(r"[^a-z0-9]", "", alias) in place]
    answers = {t: tuple(sorted(_mapped(labels, t, level, "keep").items())) for t in having}
    if named:
        return max(set(named), key=len)
    if len(set(answers.values())) > 1:
        raise UsageError(
            "the dataset whose words the labels are must be known.",
            f"{some(list(labels), 12)} are words of {', '.join(having)}, which do not mean the same by them",
            f"name it with {option}",
        )
    return having[0]


def read_label_map(path: Path | str, labels: Sequence[str], classes: Sequence[str]) -> dict[str, str | None]:
    """Read a CSV of two columns: a label of the other table, and the class it is; empty leaves it out.

    The first line is a header unless its first cell is a label.

    Args:
        path: the file.
        labels: those that the other table has.
        classes: those that it may name.

    Raises:
        TableError: no such file, not two columns, a label twice, or a name that is no label or class.
    """
    file = Path(path)
    try:
        lines = list(csv.reader(file.read_text("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else "not a CSV in UTF-8"
        raise TableError("the label map must be a CSV of two columns.", f"{file}: {why}") from None
    rows = [(i, [cell.strip() for cell in line]) for i, line in enumerate(lines, 1) if any(line)]
    if rows and rows[0][1][0] not in labels:
        rows = rows[1:]
    found: dict[str, str | None] = {}
    wrong = []
    for i, cells in rows:
        if len(cells) != 2:
            wrong.append(f"row {i}: {plural(len(cells), 'cell')}")
        elif cells[0] not in labels:
            wrong.append(f"row {i}: {cells[0]!r} is no label of the table{did_you_mean(cells[0], labels)}")
        elif cells[1] and cells[1] not in classes:
            wrong.append(f"row {i}: {cells[1]!r} is no class of the probe{did_you_mean(cells[1], classes)}")
        elif cells[0] in found:
            wrong.append(f"row {i}: {cells[0]!r} again")
        else:
            found[cells[0]] = cells[1] or None
    if wrong or not found:
        raise TableError(
            "the label map must name labels of the other table and classes of the probe.",
            [f"{file}:", *(wrong or ["no row"])],
            f"labels: {some(list(labels), 12)}; classes: {some(list(classes), 12)}",
        )
    return found


def names_at(
    trained: Sequence[str], level: Level | None, taxonomy: str | None, indeterminate: Indeterminate, name: str
) -> list[str]:
    """Return what trained classes are called at a level, each name once; at none, as they are."""
    if level is None:
        return list(trained)
    whose = taxonomy or find_taxonomy(trained, level, name, "--taxonomy")
    own = _mapped(trained, whose, level, indeterminate)
    return sorted({own[c] or c for c in trained})


def _mapped(
    labels: Sequence[str], taxonomy: str, level: Level, indeterminate: Indeterminate
) -> dict[str, str | None]:
    wanted = indeterminate if level == "malignant" else "keep"
    if indeterminate != "keep" and level != "malignant":
        raise UsageError(
            "--indeterminate is of the level malignant.", f"the level is {level}", "leave it out"
        )
    found = map_labels(labels, taxonomy=taxonomy, level=level, indeterminate=wanted)
    return dict(zip(labels, found.values.tolist(), strict=True))


def _why(value: str | None, level: Level | None, *, mapped: bool) -> str:
    if value is not None:
        return f"{value}: never trained" if level is not None else "never trained"
    return "left out by the label map" if mapped else f"no answer in the diagnosis map at level {level}"


def _how(level: Level | None, words: Mapping[str, str], label_map: Mapping[str, str | None] | None) -> str:
    own = f"a map of the user's own ({plural(len(label_map), 'label')})" if label_map else ""
    if level is None:
        return " and ".join(x for x in (own, "by name") if x)
    named = ", ".join(f"{part} {taxonomy_of(t)}" for part, t in words.items())
    return " and ".join(x for x in (own, f"diagnosis map, level {level} ({named})") if x)


def _risk(name: str, own: Mapping[str, str], taxonomy: str | None, level: Level | None) -> int:
    """Return the rank of a common class by malignancy: of two, the more malignant is the positive one."""
    if level == "malignant":
        return _RISK.get(name, 1)
    if taxonomy is None:
        return 1
    rows = [find(c, taxonomy_of(taxonomy)) for c, common in own.items() if common == name]
    return max((_RISK.get(row.malignant, 1) for row in rows if row is not None), default=1)


def _key(label: str) -> str:
    return re.sub(r"[\s_‐‑–-]+", " ", label).strip().casefold()
