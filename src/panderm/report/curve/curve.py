"""Label efficiency from embeddings to a folder: fits that are kept, tables, and one page."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from panderm.embeddings import Embeddings, EmbeddingsCard, open_embeddings
from panderm.errors import ArtifactError, ParentsError, UsageError
from panderm.probing.curve_fits import FittedCurve
from panderm.probing.kept import KeptFits
from panderm.provenance import Card, Provenance
from panderm.report.curve.files import as_dict, points_csv, summary_csv
from panderm.report.curve.page import render_curve
from panderm.report.several.titles import titles_of
from panderm.scores.label_efficiency import LabelEfficiency, require_score, score_curve
from panderm.statistics.classification import score_names
from panderm.storage import write_json, write_text
from panderm.tasks.curve import fit_curve, plan_curve
from panderm.training.settings import ClassWeight, ProbeKind, ProbeSettings, Recipe

PERCENT = (1.0, 5.0, 10.0, 20.0, 50.0, 100.0)
FILES = ("curve.json", "curve.csv", "summary.csv", "curve.html")
_PLAN = "plan.json"


class CurveCard(Card):
    """The card of a curve: from which embeddings, by which method, and all that was found."""

    kind: Literal["label efficiency"] = "label efficiency"
    format: Literal[1] = 1
    embeddings: tuple[EmbeddingsCard, ...]
    result: dict[str, Any]


def curve(
    embeddings: Embeddings | Path | str | Sequence[Embeddings | Path | str],
    *,
    percent: Sequence[float] | None = None,
    shots: Sequence[int] | None = None,
    repeats: int = 10,
    published_subset: bool = False,
    kind: ProbeKind = "linear",
    recipe: Recipe = "tuned",
    C: float | None = None,
    k: int | None = None,
    class_weight: ClassWeight = "none",
    train: str = "train",
    val: str = "val",
    test: str = "test",
    use_val: bool = False,
    score: str = "balanced_accuracy",
    draws: int = 2000,
    seed: int = 0,
    workers: int | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> LabelEfficiency:
    """Fit probes on parts of the training rows, and say how many labels equal what.

    Args:
        embeddings: one or several, of one table by different encoders; or their folders.
        percent: parts of the training rows, in (0, 100]; 100 is always among them. By default 1, 5, 10, 20,
            50 and 100.
        shots: instead, so many rows of each class, beside all rows.
        repeats: draws of labels.
        published_subset: the published rule instead: one draw, shuffled with seed 42, the first taken.
        kind: as of :func:`panderm.probe`. What a probe leaves open is chosen by cross-validation of the
            labelled rows, which keeps patients or lesions whole.
        recipe: likewise.
        C: strength, where it is not to be chosen.
        k: neighbours, where they are not to be chosen.
        class_weight: ``balanced``: each class counts as much as any other.
        train: the split to fit.
        val: the split that chooses with ``use_val``.
        test: the split to score.
        use_val: let the val rows choose: they are labels too, and the same many at every point.
        score: which of the scores sentences and figure are about; the files hold all.
        draws: bootstrap draws of test units.
        seed: of the draws of labels, the folds and the bootstrap.
        workers: fits at a time; by default as many as there are cores.
        out: folder to write; fits are kept there one by one, so that a run that was stopped goes on.
        overwrite: where ``out`` holds a curve of something else, replace it.
        progress: show progress on standard error.

    Raises:
        ParentsError: embeddings of different tables or rows, or ``out`` holds a curve of others.
        DataError: a question that cannot be asked of these rows.

    Example:
        >>> found = panderm.curve(["large.emb", "small.emb"], out="curve")  # doctest: +SKIP
        >>> print(found.sentences()[0])  # doctest: +SKIP
        large with 12 % of the labels equals small with all of them …
    """
    started = time.monotonic()
    given = [embeddings] if isinstance(embeddings, Embeddings | Path | str) else list(embeddings)
    percent = PERCENT if percent is None else percent
    require_settings(percent, shots, repeats, draws, seed, published=published_subset)
    if not given:
        raise UsageError("a curve needs embeddings.", "found none", "panderm curve X.emb --out curve")
    opened = [one if isinstance(one, Embeddings) else open_embeddings(one) for one in given]
    # One number, however it is written: fits are kept under their settings.
    C = None if C is None else float(C)
    settings = ProbeSettings(kind=kind, recipe=recipe, C=C, k=k, class_weight=class_weight, seed=seed)
    require_score(score, score_names(len(opened[0].rows.classes)))
    with _folder(out) as folder:
        question = {
            "table": opened[0].card.table.sha256,
            "train": train,
            "val": val if use_val else None,
            "test": test,
            "probe": {**settings.record(), "seed": seed},
        }
        # What cannot be asked is refused before anything is written, or anything replaced.
        plan = plan_curve(
            opened,
            settings,
            percent=sorted(set(percent)),
            shots=None if shots is None else sorted(set(shots)),
            repeats=repeats,
            published_subset=published_subset,
            train=train,
            val=val,
            test=test,
            use_val=use_val,
        )
        _begin(folder, question, opened, overwrite=overwrite)
        fitted = fit_curve(plan, KeptFits(folder / "fits"), workers=workers, progress=progress)
        titles = titles_of([(emb.card, {}, emb.card.identity) for emb in opened])
        found = score_curve(fitted, titles, score=score, draws=draws, seed=seed, progress=progress)
        if out is not None:
            _write(folder, found, fitted, seconds=time.monotonic() - started)
    return found


def require_settings(
    percent: Sequence[float],
    shots: Sequence[int] | None,
    repeats: int,
    draws: int,
    seed: int,
    *,
    published: bool,
) -> None:
    """Raise :class:`UsageError` where a number is out of its range, or options exclude each other."""
    if published and shots is not None:
        raise UsageError(
            "--shots and --published-subset exclude each other.", "found both", "leave one of them out"
        )
    for name, values, least, most in (
        ("--percent", percent, 0, 100),
        ("--shots", shots if shots is not None else [1], 0, 10**9),
        ("--repeats", [repeats], 0, 10**4),
        ("--draws", [draws], 0, 10**7),
        ("--seed", [seed], -1, 2**32 - 1),
    ):
        bad = [value for value in values if not least < value <= most]
        if bad or not len(values):
            raise UsageError(
                f"{name} must be greater than {least} and at most {most:,}.",
                f"found {bad[0] if bad else 'none'}",
            )


@contextlib.contextmanager
def _folder(out: Path | str | None) -> Iterator[Path]:
    """Yield the folder to work in: of no ``out``, one that is gone afterwards."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _begin(folder: Path, question: dict[str, Any], opened: Sequence[Embeddings], *, overwrite: bool) -> None:
    """Write down what the folder is about; refuse one that is about something else.

    More encoders, points or repeats may come to those that are there.
    """
    plan = folder / "fits" / _PLAN
    encoders = {emb.card.identity: emb.card.encoder.name for emb in opened}
    if plan.is_file():
        held = _read(plan)
        others = [name for identity, name in held.get("encoders", {}).items() if identity not in encoders]
        differ = [key for key in question if held.get("question", {}).get(key) != question[key]]
        if (others or differ) and not overwrite:
            found = [f"it holds {name}, which is not given here" for name in others]
            found += [
                f"{key}: there {held.get('question', {}).get(key)}, here {question[key]}" for key in differ
            ]
            raise ParentsError(
                f"{folder} must hold a curve of these embeddings and settings to go on with it.",
                found,
                "choose another --out, name its embeddings too, or add --overwrite to begin anew",
            )
        if others or differ:
            shutil.rmtree(folder / "fits")
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
    elif folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ArtifactError(
            "the folder of a curve must be new, or one that panderm curve wrote.",
            f"{folder} {'is a file' if folder.is_file() else 'holds other files'}",
            "choose another --out",
        )
    write_json(plan, {"question": question, "encoders": encoders}, overwrite=True)


def _read(plan: Path) -> dict[str, Any]:
    try:
        held = json.loads(plan.read_bytes())
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def _write(folder: Path, found: LabelEfficiency, fitted: FittedCurve, *, seconds: float) -> None:
    card = CurveCard(
        provenance=Provenance.now(seconds=seconds),
        embeddings=tuple(emb.card for emb in fitted.embeddings),
        result=as_dict(found),
    )
    write_text(folder / "curve.csv", points_csv(found), overwrite=True)
    write_text(folder / "summary.csv", summary_csv(found), overwrite=True)
    page = render_curve(found, [emb.card for emb in fitted.embeddings], card.provenance)
    write_text(folder / "curve.html", page, overwrite=True)
    write_json(folder / "curve.json", card.model_dump(mode="json"), overwrite=True)
