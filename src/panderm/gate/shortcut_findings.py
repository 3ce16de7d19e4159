"""What embeddings know of source, device and site, in the shape that the gate tells things in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from panderm.data.columns import Column, read_cells, read_column
from panderm.embeddings import Embeddings
from panderm.errors import DataError, ParentsError, UsageError, plural, some
from panderm.gate.column_findings import auroc_measure
from panderm.gate.cross_validated import DRAWS
from panderm.gate.file_facts import file_facts
from panderm.gate.findings import Finding, Inspected, Measure
from panderm.gate.shortcuts import Shortcut, ShortcutProbe, probe_shortcuts, require_columns


def inspect_shortcuts(
    inspected: Inspected,
    embeddings: Embeddings,
    /,
    *,
    columns: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = False,
) -> list[Finding]:
    """Tell how well embeddings predict source, device, site, artefacts and the like.

    Args:
        inspected: the table and its files.
        embeddings: of its images; rows without one are not used.
        columns: which columns to ask for; by default those whose names say so, and facts of the files.
        draws: of the bootstrap.
        seed: of the folds and of the bootstrap.
        progress: show progress on standard error.

    Raises:
        ParentsError: embeddings of another table.
        UsageError: a column that is not there.
    """
    require_images_of(embeddings, inspected.image, inspected.source)
    place = {name: i for i, name in enumerate(embeddings.rows.image)}
    at = np.array([place.get(name, -1) if name else -1 for name in inspected.image], dtype=np.int64)
    rows = np.flatnonzero(at >= 0)
    frame = inspected.frame.iloc[rows]
    roles = inspected.roles
    facts = file_facts(
        [inspected.path[i] for i in rows], [inspected.examined[i] for i in rows], progress=progress
    )
    try:
        probe = probe_shortcuts(
            embeddings.vectors[at[rows]],
            frame,
            encoder=embeddings.card.encoder.name,
            label=roles["label"],
            patient=roles["patient"],
            group=roles["group"],
            columns=columns,
            facts=facts,
            draws=draws,
            seed=seed,
            progress=progress,
        )
    except DataError as error:  # a long check is not thrown away for want of a column
        title = "No possible shortcut to look for"
        told = error.found[0]
        return [Finding.of("no-shortcut-columns", "note", "columns", title, told, error.hint or "", count=0)]
    found = shortcut_findings(probe, roles["label"])
    lacking = len(inspected.image) - len(rows)
    if lacking:
        sentence = f"{plural(lacking, 'row')} without an embedding: not asked for shortcuts"
        found.append(
            Finding.of("rows-not-embedded", "note", "columns", "Rows not embedded", sentence, count=lacking)
        )
    return found


def require_shortcuts(
    embeddings: Embeddings | None, columns: Sequence[str] | None, source: Path, image_column: str
) -> None:
    """Raise what :func:`inspect_shortcuts` would, before any file is decoded.

    Args:
        embeddings: those of ``--shortcuts``, where they are given.
        columns: those of ``--shortcut-columns``, likewise.
        source: the table.
        image_column: its column of file names.
    """
    if embeddings is None:
        if columns is not None:
            raise UsageError(
                "--shortcut-columns must come with --shortcuts: they are asked of embeddings.",
                f"found --shortcut-columns {','.join(columns)} alone",
                "add --shortcuts X.emb",
            )
        return
    frame = read_cells(source)
    if image_column in frame.columns:  # where it is not, the table's own reader says so
        require_images_of(embeddings, read_column(frame, image_column), source)
        require_columns(frame, columns)


def require_images_of(embeddings: Embeddings, image: Column, source: Path) -> None:
    """Raise :class:`ParentsError` naming both where embeddings hold images that a table does not name."""
    named = {name for name in image if name}
    strange = [name for name in embeddings.rows.image if name not in named]
    if strange:
        theirs = embeddings.card.table
        where = embeddings.path or "the embeddings"
        raise ParentsError(
            "shortcuts are looked for in embeddings of the table's own images.",
            [
                f"{where} was made from {theirs.csv} ({plural(len(embeddings), 'image')})",
                f"the table is {source} ({plural(len(named), 'image')})",
                f"not in it: {some(strange)}",
            ],
            "name the embeddings of this table, or embed it: panderm embed",
        )


def shortcut_findings(probe: ShortcutProbe, label: str | None) -> list[Finding]:
    """Put what the embeddings know into findings and notes.

    A finding is a technical column, such as source or ruler, that is seen in the embeddings and tied to the
    label; site, sex and age are in the picture by nature, and a note.
    """
    found = [_finding(one) for one in probe.columns if one.could_matter and one.technical]
    others = [one for one in probe.columns if not (one.could_matter and one.technical)]
    if others:
        each = some([f"{one.name} {_figures(one)}" for one in others], 12)
        of = f"for {label}" if label else "for the label; there is none to ask"
        most = max(others, key=lambda one: one.seen.n)
        sentence = f"AUROC from the embeddings, then of the column alone {of}: {each}; {most.seen.basis}"
        found.append(
            Finding.of(
                "embeddings-know",
                "note",
                "columns",
                f"What the embeddings by {probe.encoder} know",
                sentence,
                count=len(others),
                measures=[m for one in others for m in _measures(one)],
            )
        )
    if probe.not_probed:
        told = "; ".join(f"{name}: {why}" for name, why in probe.not_probed.items())
        title = "Possible shortcuts not looked for"
        count = len(probe.not_probed)
        found.append(Finding.of("shortcut-not-probed", "note", "columns", title, told, count=count))
    return found


def _finding(one: Shortcut) -> Finding:
    return Finding.of(
        "shortcut",
        "finding",
        "columns",
        f"{one.name} is a possible shortcut",
        f"{one.sentence}; {one.seen.basis}",
        f"score each value of {one.name} apart (panderm evaluate --by), and test on images of another source",
        count=sum(one.levels.values()),
        measures=_measures(one),
    )


def _figures(one: Shortcut) -> str:
    return f"{one.seen.figures} then {one.tied.figures if one.tied is not None else 'no label'}"


def _measures(one: Shortcut) -> list[Measure]:
    seen = auroc_measure(f"{one.name}, from the embeddings", one.seen)
    tied = [] if one.tied is None else [auroc_measure(f"the label, from {one.name}", one.tied)]
    return [seen, *tied]
