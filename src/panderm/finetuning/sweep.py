"""A small search: each setting learned a few times, compared on the validation rows alone, and one chosen."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from panderm.classifying.file import NAME
from panderm.data.table import read_table
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import ArtifactError
from panderm.finetuning.finished import Finetuned
from panderm.finetuning.grid import Settings, as_options, in_words, require_grid, settings_of
from panderm.finetuning.rows import Rows, rows_of
from panderm.finetuning.run_card import EMBEDDINGS_NAME, LAST_NAME
from panderm.finetuning.tried import compared, table_of, words_of, worth_of
from panderm.progress import say
from panderm.storage import in_a_path, write_json, write_text

Run = Callable[..., Finetuned]

FOLDER, FINAL, ROWS = "sweep", "final", "rows.csv"
TABLE, RECORD = "sweep.csv", "sweep.json"


def swept(run: Run, asked: Mapping[str, Any]) -> Finetuned:
    """Try each setting, choose one, and fine-tune with it.

    ``sweep/rows.csv`` has the training and the validation rows and no others: no run of the search can look
    at a test row. Repeat r has the seed ``seed`` + r, and which rows choose does not change with it. The
    weights of these runs are removed; their predictions, curves and cards stay.

    Args:
        run: :func:`panderm.finetune`.
        asked: all its arguments; ``sweep`` has the values of each option, ``repeats`` the runs of a setting.

    Returns:
        The run with what was chosen, in ``final/``; the test rows are looked at there for the first time.

    Raises:
        UsageError: nothing to choose from, or an option that is given and swept.
        ArtifactError: the folder holds another search, or something else.
    """
    grid, repeats, folder = dict(asked["sweep"]), int(asked["repeats"]), Path(asked["out"])
    ranks: Ranks = asked["ranks"] or Ranks()
    require_grid(grid, asked, repeats)
    rows = _rows(asked, ranks)
    ranks.agree(lambda: _begin(folder, rows, overwrite=bool(asked["overwrite"])))
    shown = bool(asked["progress"]) and ranks.lead
    common = {**asked, **_of_rows(rows, folder), **_PLAIN, "ranks": ranks}
    settings = list(settings_of(grid))
    made: list[list[Finetuned]] = []
    for i, one in enumerate(settings):
        made.append([])
        for r in range(repeats):
            name = _name(one, asked["seed"] + r)
            if shown:
                of = f"setting {i + 1} of {len(settings)}, repeat {r + 1} of {repeats}"
                say(f"{of}: {in_words(one)}, seed {asked['seed'] + r}")
            done = run(**{**common, **one, "seed": asked["seed"] + r, "out": folder / FOLDER / name})
            made[-1].append(done)
            if ranks.lead:
                _make_room(done)
    chosen = ranks.agree(lambda: _conclude(folder, grid, settings, made, asked, shown=shown))
    told = {"sweep": None, "repeats": 1, "out": folder / FINAL, "ranks": ranks}
    return run(**{**asked, **settings[chosen], **told})


_PLAIN: Settings = {
    "sweep": None,
    "repeats": 1,
    "overwrite": False,
    "percent_data": 1.0,
    "skip_bad": False,
    "calibrate": "none",
    "tta": "none",
}


def _make_room(run: Finetuned) -> None:
    """Remove what takes room: weights, and the vectors of all rows."""
    shutil.rmtree(run.folder / EMBEDDINGS_NAME, ignore_errors=True)
    for name in (NAME, LAST_NAME):
        (run.folder / name).unlink(missing_ok=True)


def _rows(asked: Mapping[str, Any], ranks: Ranks) -> Rows:
    """Return the rows of a run as it would divide them."""
    table = read_table(
        asked["table"],
        **{name: asked[name] for name in ("images", "image_column", "label", "split_column", "patient")},
        **{name: asked[name] for name in ("group", "classes", "skip_bad", "max_megapixels")},
        decode=asked["skip_bad"],
        progress=asked["progress"] and ranks.lead,
    )
    how = {name: asked[name] for name in ("labels", "separator", "percent_data", "seed", "allow_leaks")}
    return rows_of(table, **how)


def _begin(folder: Path, rows: Rows, *, overwrite: bool) -> None:
    """Make the folder of a search, or see that it holds this one."""
    where, text = folder / FOLDER, _as_csv(rows)
    ours = (where / ROWS).is_file()
    if not ours and folder.is_dir() and any(folder.iterdir()):
        raise ArtifactError(
            "a search needs a folder of its own.", f"{folder} holds other files", "choose another --out"
        )
    if ours and not overwrite:
        if (where / ROWS).read_text(encoding="utf-8") != text:
            raise ArtifactError(
                "a search must go on as it began.",
                f"{where / ROWS} has other rows than are given now",
                "give the same table; or begin again with --overwrite, or in another --out",
            )
        return
    if ours:  # the rows go last: by them the folder is known as ours
        for path in (folder / TABLE, folder / RECORD):
            path.unlink(missing_ok=True)
        for path in where.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
    where.mkdir(parents=True, exist_ok=True)
    write_text(where / ROWS, text, overwrite=True)


def _columns(rows: Rows) -> list[str]:
    """Return the names of the columns of labels."""
    if rows.labels == "one":
        return ["label"]
    taken = {"image", "split", "patient", "group"}
    return [f"label {name}" if name in taken else name for name in rows.classes]


def _as_csv(rows: Rows) -> str:
    """Return the rows of train and val as a table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    table = rows.table
    writer.writerow(["image", "split", "patient", "group", *_columns(rows)])
    part = {int(i): name for name in ("train", "val") for i in getattr(rows, name)}
    for i in sorted(part):
        who = [table.image[i], part[i], table.patient[i] or "", table.group[i] or ""]
        known = ["" if value < 0 else int(value) for value in rows.truth[i]]
        writer.writerow([*who, *([table.label[i]] if rows.labels == "one" else known)])
    return text.getvalue()


def _of_rows(rows: Rows, folder: Path) -> Settings:
    """Return how a run is told of the rows of a search."""
    several, roles = rows.labels == "several", rows.table.card.roles
    return {
        "table": folder / FOLDER / ROWS,
        "images": Path(rows.table.card.images),
        "image_column": "image",
        "split_column": "split",
        "label": None if several else "label",
        "labels": _columns(rows) if several else None,
        "classes": None if several else list(rows.classes),
        "separator": None,
        "patient": "patient" if roles["patient"] else None,
        "group": "group" if roles["group"] else None,
    }


def _name(settings: Settings, seed: int) -> str:
    return in_a_path(f"{in_words(settings)}, seed {seed}".replace(", ", "_").replace(" ", "-"))


# What came of it


def _conclude(
    folder: Path,
    grid: Mapping[str, Sequence[Any]],
    settings: Sequence[Settings],
    made: Sequence[Sequence[Finetuned]],
    asked: Mapping[str, Any],
    *,
    shown: bool,
) -> int:
    """Write the table, say what it says, and return the place of the setting that is chosen."""
    tried, engine, score = compared(settings, made, draws=asked["draws"], seed=asked["seed"])
    best = next(i for i, one in enumerate(tried) if one.against is None)
    less = score == "loss"
    ranked = sorted(tried, key=lambda one: worth_of(one.score.value, less=less), reverse=True)
    n = len(engine.clusters)
    facts = {
        "score": score,
        "n": n,
        "unit": engine.unit,
        "units": engine.units,
        "draws": engine.draws,
        "bootstrap_seed": engine.seed,
        "strata": "classes" if engine.strata is not None else None,
    }
    record = {
        "grid": {name: list(values) for name, values in grid.items()},
        **facts,
        "chosen": settings[best],
        "tried": [one.as_dict() for one in ranked],
    }
    write_text(folder / TABLE, table_of(ranked, facts, list(grid)), overwrite=True)
    write_json(folder / RECORD, record, overwrite=True)
    if shown:
        for line in words_of(ranked, facts):
            say(line)
        say(f"all of it: {folder / TABLE}; now {as_options(settings[best])} into {folder / FINAL}")
    return best
