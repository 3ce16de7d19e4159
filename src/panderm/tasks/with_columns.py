"""Do images and what is known of the patient add to each other? A probe on both, and on each alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from panderm.embeddings import Embeddings, open_embeddings
from panderm.errors import PandermWarning, UsageError
from panderm.gate.describing import MUST_DESCRIBE, leaks
from panderm.predictions import Predictions
from panderm.probing.answer import answer
from panderm.probing.columns import WithColumns, weighed
from panderm.probing.pooled import Pooling, inputs_for
from panderm.probing.splits import Calibrate, asked_by_split
from panderm.probing.table_columns import require_named, table_as_it_was
from panderm.storage import refuse_existing
from panderm.training.linear_probe import require_labels
from panderm.training.settings import ClassWeight, ProbeKind, ProbeSettings, Recipe

OPTION = "--with"


@dataclass(frozen=True, eq=False)
class ProbedWithColumns:
    """Predictions of the same rows by the images, by columns of the table, and by both together.

    Attributes:
        both: by a probe on the embedding and the columns side by side.
        images: by a probe on the embedding alone: what ``panderm.probe`` makes.
        columns: by a probe on the columns alone.
        names: the columns.
        leaks: those that give the answer away, and how; empty unless they were allowed.
    """

    both: Predictions
    images: Predictions
    columns: Predictions
    names: tuple[str, ...]
    leaks: dict[str, str]

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write ``x.pred``, and beside it ``x-images.pred`` and ``x-columns.pred``; return the first."""
        folder = Path(path)
        for given, made in zip(folders(folder), (self.images, self.columns, self.both), strict=True):
            made.save(given, overwrite=overwrite)
        return folder


def folders(out: Path | str) -> tuple[Path, Path, Path]:
    """Return where the predictions by images, by columns and by both lie, of an ``out`` for the last."""
    path = Path(out)
    images, columns = (path.with_name(f"{path.stem}-{part}{path.suffix}") for part in ("images", "columns"))
    return images, columns, path


def probe_with(
    embeddings: Embeddings | Path | str,
    columns: Sequence[str],
    *,
    allow_leaky_columns: bool = False,
    kind: ProbeKind = "linear",
    recipe: Recipe = "tuned",
    train: str = "train",
    val: str = "val",
    test: str = "test",
    percent_data: float = 1.0,
    C: float | None = None,
    k: int | None = None,
    class_weight: ClassWeight = "none",
    sample_weight: str | None = None,
    pooling: Pooling = "stored",
    float64: bool = False,
    device: str = "auto",
    calibrate: Calibrate = "none",
    seed: int = 0,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> ProbedWithColumns:
    """Fit three probes on one split and predict another: on images, on columns of the table, and on both.

    The same rows are fitted, the same choose and the same are predicted. How columns become numbers
    (:class:`panderm.data.encoding.ColumnEncoder`) is learned from the training rows. How much they weigh
    beside the image is chosen among a few values by log loss on the rows that choose the strength as well
    (:class:`panderm.probing.columns.WithColumns`).

    Args:
        embeddings: Embeddings or the folder that holds them.
        columns: columns of the table that was embedded, as it was.
        allow_leaky_columns: take columns that give the answer away, or are the label under another name, too.
        kind: as of :func:`panderm.probe`; not ``attentive``, which takes tokens.
        recipe: likewise.
        train: likewise.
        val: likewise.
        test: likewise.
        percent_data: likewise.
        C: likewise, of all three probes.
        k: likewise.
        class_weight: likewise.
        sample_weight: likewise.
        pooling: likewise; not ``choose``.
        float64: likewise.
        device: likewise.
        calibrate: likewise.
        seed: likewise.
        out: folder to write, ``x.pred``, of both; beside it ``x-images.pred`` and ``x-columns.pred``.
        overwrite: replace folders that exist.
        progress: show progress on standard error.

    Raises:
        UsageError: a column that is not there, has a role, describes nothing, or gives the answer away.
        ParentsError: the table is gone, or is another than it was.
        DataError: as of :func:`panderm.probe`.

    Example:
        >>> made = panderm.probe_with("ham.emb", ["age", "sex"], out="with.pred")  # doctest: +SKIP
        >>> panderm.Report([made.both, made.images, made.columns]).save("with.html")  # doctest: +SKIP
    """
    for folder in folders(out) if out is not None else ():
        refuse_existing(folder, overwrite=overwrite)
    emb = embeddings if isinstance(embeddings, Embeddings) else open_embeddings(embeddings)
    if kind == "attentive" or pooling == "choose":
        one = "--kind attentive" if kind == "attentive" else "--pooling choose"
        raise UsageError(f"{OPTION} and {one} do not go together.", hint="name another kind or pooling")
    settings = ProbeSettings(kind, recipe, C, k, class_weight, float64, device, seed)
    images = inputs_for(emb, kind, pooling, progress=progress)
    assert not isinstance(images, dict)  # only where pooling is to be chosen
    asked = asked_by_split(
        emb.rows,
        settings,
        train=train,
        val=val,
        test=test,
        percent_data=percent_data,
        calibrate=calibrate,
        sample_weight=sample_weight,
        pooling=pooling,
        choosing_inputs=True,
    )
    names = tuple(dict.fromkeys(columns))
    found = _leaks(emb, names, allow=allow_leaky_columns, seed=seed, progress=progress)
    alone = WithColumns(names, images=None)
    used = [rows for rows in (asked.train, asked.val, asked.calibration, asked.test) if rows is not None]
    alone.fit(emb, asked.train).warn_of_unread(emb, np.unique(np.concatenate(used)))
    told = {"columns": list(names), **({"leaky columns": found} if found else {})}
    by_both = replace(asked, method={**asked.method, "sees": "images and columns", **told})
    by_columns = replace(asked, method={**asked.method, "sees": "columns alone", **told})
    made = ProbedWithColumns(
        both=answer(emb, by_both, settings, inputs=weighed(names, images), progress=progress),
        images=answer(emb, asked, settings, inputs=images, progress=progress),
        columns=answer(emb, by_columns, settings, inputs=alone, progress=progress),
        names=names,
        leaks=found,
    )
    if out is not None:
        made.save(out, overwrite=overwrite)
    return made


def _leaks(
    emb: Embeddings, names: tuple[str, ...], *, allow: bool, seed: int, progress: bool
) -> dict[str, str]:
    """Return which columns give the answer away; refuse these unless they are allowed."""
    require_labels(emb.rows)
    card = emb.card.table
    frame = table_as_it_was(card, OPTION)
    require_named(frame, names, option=OPTION, table=card.csv)
    found = leaks(frame, card, names, option=OPTION, seed=seed, progress=progress)
    lines = [f"{name}: {why}" for name, why in found.items()]
    if found and not allow:
        raise UsageError(
            MUST_DESCRIBE.format(option=OPTION),
            lines,
            "leave them out; or add --allow-leaky-columns, where all this is known before the diagnosis is",
        )
    for line in lines:
        warnings.warn(line, PandermWarning, stacklevel=3)
    return found
