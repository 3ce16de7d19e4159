"""The methods of an evaluation as paragraphs to paste into a manuscript, with what they rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from panderm.data.table import TableCard
from panderm.embeddings import EncoderRecord
from panderm.errors import plural, some
from panderm.predictions import PredictionsCard
from panderm.report.authors.findings import dangerous, positive_of
from panderm.report.authors.frequencies import quoted
from panderm.report.entry import Entry
from panderm.report.several.keys import letter_of
from panderm.report.with_columns import without_image
from panderm.report.words import pairs, plain, score_words, units
from panderm.scores import LEVEL, Scores
from panderm.scores.compared import Comparison
from panderm.scores.prediction_sets import PredictionSets

# What begins with it is left to the author.
AUTHOR = "[AUTHOR: "
_HASH = 12
# Settings that have a sentence of their own, or say nothing of how the fit was made.
_TOLD: tuple[str, ...] = ("recipe", "probe", "train split", "train rows", "train rows per class")
_TOLD += ("percent of training data", "seed", "C", "k", "penalty", "columns", "sees", "leaky columns")
_TOLD += ("dealt as", "folds", "rows", "rows by fold")
_PENALTY = {
    "tuned": "an L2 penalty",
    "paper": "a penalty on the norm of its weights, as in the published evaluation of PanDerm",
}
_AGAIN = {
    "temperature": "temperature scaling",
    "isotonic": "isotonic regression",
    "prior shift": "correction of the prior shift",
}
_PACKAGES = {
    "python": "Python",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "timm": "timm",
    "scikit-learn": "scikit-learn",
    "numpy": "NumPy",
}


def methods_paragraphs(entries: Sequence[Entry], comparison: Comparison | None = None) -> list[str]:
    """Return the methods of one evaluation, or of several of the same rows, one paragraph a subject.

    What is not known here stands in brackets that begin with ``[AUTHOR:``.
    """
    first = entries[0]
    return [
        of_data(first),
        *_each_once(of_encoder, entries),
        *_each_once(of_probe, entries),
        *_each_once(of_recalibration, entries),
        *(thresholds for thresholds in (of_thresholds(first.scores),) if thresholds),
        of_scores(entries, comparison),
        of_software(entries),
    ]


def _each_once(of: Callable[[Entry], str | None], entries: Sequence[Entry]) -> list[str]:
    """Return a paragraph an entry, those alike once; where there are several, each says of which it is."""
    found: dict[str, list[str]] = {}
    for i, entry in enumerate(entries):
        text = of(entry)
        if text is not None:
            found.setdefault(text, []).append(letter_of(i))
    if len(entries) == 1:
        return list(found)
    return [f"{', '.join(who)}: {text}" for text, who in found.items()]


def of_data(entry: Entry) -> str:
    """Say which rows there were, how they were split, and which were scored."""
    card, scores = entry.predictions.card, entry.scores
    counts = ", ".join(f"{n.n:,} {name}" for name, n in scores.per_class.items())
    scored = f"{plural(scores.n, scores.row)}{scores.of_units} ({counts})"
    about = f"{AUTHOR}where, when and by whom images were taken, who was eligible, how the truth was known.]"
    if card.embeddings is None:
        assert card.file is not None
        read = card.file
        columns = ", ".join(f"{role} from “{name}”" for role, name in read.columns.items())
        return (
            f"Predictions were read from a file ({Path(read.path).name}, SHA-256 {read.sha256[:_HASH]}; "
            f"{columns}; probabilities from {some(list(read.probabilities.values()), 8)}). "
            f"{scored} of it were scored. "
            f"{AUTHOR}the model, its training and validation data, preprocessing and settings.] {about}"
        )
    table = card.embeddings.table
    told = [f"Images and labels came from {named(table)}:"]
    told += [f"{of_table(table)}.", of_exclusions(table)]
    told += [of_split(table)] if entry.predictions.fold is None and card.fitted_on is None else []
    if card.fitted_on is not None:
        other = card.fitted_on.table
        told.append(f"The probe was fitted on another table, {named(other)}: {of_table(other)}.")
    where = "Out of fold" if entry.predictions.fold is not None else f"Of the {scores.split} split"
    where = where if card.fitted_on is None else f"Of {scores.split}"
    told += [f"{where}, {scored} were scored.", about]
    return " ".join(one for one in told if one)


def named(table: TableCard) -> str:
    """Return a table's name, file and hash: ``"skin (data/skin.csv, SHA-256 1a1a1a1a1a1a)"``."""
    file = "/".join(Path(table.csv).parts[-2:]).removeprefix("//")
    return f"{table.name} ({file}, SHA-256 {table.csv_sha256[:_HASH]})"


def of_table(table: TableCard) -> str:
    """Return ``"555 images of 300 patients in 2 classes (melanoma, nevus)"``."""
    of = [
        plural(n, unit)
        for n, unit in ((table.patients, "patient"), (table.groups, "lesion"))
        if n is not None
    ]
    among = f" of {' and '.join(of)}" if of else ", whose patients are not named,"
    classes = plural(len(table.classes), "class", "classes")
    return f"{plural(table.rows, 'image')}{among} in {classes} ({some(table.classes, 12)})"


def of_exclusions(table: TableCard) -> str:
    """Say how many rows of a table could not be used, and the commonest reasons."""
    if not table.skipped:
        return "No row was left out."
    reasons = list(dict.fromkeys(row.reason.partition(" (")[0] for row in table.skipped))
    return f"{plural(len(table.skipped), 'row')} could not be used ({some(reasons, 3)})."


def of_split(table: TableCard) -> str:
    """Say how a table is split, and what was kept whole."""
    counts = {name: sum(rows.values()) for name, rows in table.counts.items()}
    if len(counts) < 2:
        return ""
    told = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    kept = [noun for noun, role in (("patient", "patient"), ("lesion", "group")) if table.roles.get(role)]
    apart = (
        f"no {' and no '.join(kept)} is in two of them"
        if kept
        else "no patient or lesion is named, so that only images are known to be in one of them"
    )
    lock = table.lock
    locked = f"; a lock (SHA-256 {lock.sha256[:_HASH]}, seed {lock.seed}) held it" if lock else ""
    return f"They were split into {told} images; {apart}{locked}."


def of_encoder(entry: Entry) -> str | None:
    """Say what an image becomes, by which network, with which weights; None where that is not known."""
    card = entry.predictions.card.embeddings
    if card is None:
        return None
    if without_image(entry.predictions.card.method):
        return "No image was shown to it: it saw columns of the table alone."
    encoder = card.encoder
    return (
        f"{of_preprocessing(encoder)} Embeddings are {plural(encoder.dim, 'number')} an image "
        f"(pool {encoder.pool}, {encoder.precision}) of {encoder.name} ({encoder.architecture}), "
        f"{of_weights(encoder)}. It was not trained further."
    )


def of_preprocessing(encoder: EncoderRecord) -> str:
    """Say how pixels were made of a file."""
    made = encoder.preprocess
    if not {"resize", "crop", "interpolation", "mean", "std"} <= set(made):
        return f"Images were prepared as: {', '.join(f'{k} {v}' for k, v in pairs(made))}."
    resize, crop = made["resize"], made["crop"]
    sized = f"shorter side {resize}" if isinstance(resize, int) else " × ".join(map(str, resize))
    return (
        f"Images were resized ({sized} pixels, {made['interpolation']}), cut to {crop} × {crop} about the "
        f"centre, and normalised (mean {plain(made['mean'])}; SD {plain(made['std'])})."
    )


def of_weights(encoder: EncoderRecord) -> str:
    """Say which weights an encoder had."""
    if encoder.random:
        return "with weights drawn at random"
    file = Path(encoder.weights).name if encoder.weights else "no file is named"
    return f"with pretrained weights ({file}, SHA-256 {encoder.weights_sha256[:_HASH]})"


def of_recalibration(entry: Entry) -> str | None:
    """Say how probabilities were changed after they were given; None where they were not."""
    made = entry.predictions.card.recalibration
    if made is None:
        return None
    told = []
    if made.method != "none":
        told.append(f"recalibrated by {made.method} on {made.rows or 'rows that are not told'}")
    if made.new is not None:
        shares = ", ".join(f"{name} {share:.3g}" for name, share in made.new.items())
        told.append(f"moved to other shares of the classes ({shares}) by Bayes’ rule")
    return f"Probabilities were {' and '.join(told)} before they were scored." if told else None


def of_probe(entry: Entry) -> str | None:
    """Say what was fitted on the embeddings, on which rows, and how; None where that is not known."""
    card = entry.predictions.card
    if card.embeddings is None:
        return None
    method = card.method
    told = f"{card.task[0].upper()}{card.task[1:]}"
    if (recipe := method.get("recipe")) in _PENALTY:
        told += f" (multinomial logistic regression with {_PENALTY[str(recipe)]})"
    told += f" fitted on {fitted_rows(card)}"
    if columns := method.get("columns"):
        told += f", shown the {'column' if len(columns) == 1 else 'columns'} {some(columns, 12)}" + (
            " and no image" if method.get("sees") == "columns alone" else " beside the images"
        )
    told += f"; {settings}" if (settings := chosen(card)) else ""
    rest = {k: v for k, v in method.items() if k not in _TOLD and isinstance(v, str | int | float)}
    if rest:
        told += f"; {', '.join(f'{name} {plain(value)}' for name, value in rest.items())}"
    told += f"; seed {method['seed']}" if "seed" in method else ""
    if card.outcome.get("converged") is False:
        told += "; it stopped before it had converged"
    return f"{told}."


def fitted_rows(card: PredictionsCard) -> str:
    """Return how many rows a probe was fitted on, by class where that is known."""
    method = card.method
    if "folds" in method:
        return f"all folds but the one predicted, of {plural(int(method['folds']), 'fold')}"
    rows = method.get("train rows", method.get("train_rows"))
    told = f"{plural(rows, 'row')}" if isinstance(rows, int) else "the training rows"
    told += f" of {method['train split']}" if "train split" in method else ""
    classes = method.get("train rows per class")
    if isinstance(classes, dict) and len(classes) <= 12:
        told += f" ({', '.join(f'{n:,} {name}' for name, n in classes.items())})"
    return told


def chosen(card: PredictionsCard) -> str | None:
    """Return what was chosen from data, and how: ``"C = 0.01, by log loss of 124 validation rows"``.

    None where the card does not say so and names no setting that was given.
    """
    folds = [v for k, v in card.outcome.items() if k.startswith("fold ") and isinstance(v, dict)]
    found = [_chosen_in(outcome) for outcome in folds or [card.outcome]]
    if any(found):
        if len(set(found)) == 1:
            return f"{found[0]}{' in each fold' if folds else ''}"
        return f"by fold: {'; '.join(dict.fromkeys(filter(None, found)))}"
    given = [n for n in ("C", "k") if isinstance(card.method.get(n), int | float)]
    return ", ".join(f"{n} = {plain(card.method[n])}, not chosen from data" for n in given) or None


def _chosen_in(outcome: Mapping[str, Any]) -> str:
    told = []
    for key, how in outcome.items():
        if key == "chosen on":
            told.append(str(outcome.get("summary") or f"by {how}"))
        elif key.endswith(" chosen on"):
            name = key.removesuffix(" chosen on")
            told.append(f"{name} = {plain(outcome.get(name))}, by {how}")
    return "; ".join(told)


def of_thresholds(scores: Scores) -> str | None:
    """Say which thresholds there are and where they were chosen."""
    held = scores.operating
    if held is None or not held.points:
        return None
    aims = "; ".join(f"{p.target.words}" for p in held.points)
    where = (
        f"on {held.chosen_on} ({held.positives:,} positive) and locked before others were scored"
        if held.locked
        else "on the rows scored themselves, so that what they reach is flattered"
    )
    added = ", their probabilities added up" if len(held.positive) > 1 else ""
    told = (
        f"{quoted(held.positive, 'and')} counted as positive{added}. Thresholds were chosen {where}: {aims}."
    )
    at = dict.fromkeys(one.prevalence for p in held.points for one in p.at)
    if at:
        told += f" PPV and NPV were restated at {', '.join(f'{x:.3g}' for x in at)} by Bayes’ rule."
    return told


def of_scores(entries: Sequence[Entry], comparison: Comparison | None = None) -> str:
    """Say which scores there are, how intervals were made, and what was compared."""
    scores = entries[0].scores
    names = [score_words(name).title.replace(", one-vs", " one-vs") for name in scores.scores]
    told = [f"Scores: {', '.join(names)}; sensitivity and specificity of each class."]
    positive = positive_of(scores)
    if positive and not scores.operating:
        told.append(f"{quoted(positive, 'and')} counted as positive.")
    if scores.folds:
        told.append(f"AUROC and average precision ranked rows within each of {len(scores.folds.each)} folds.")
    told.append(of_intervals(scores))
    told += _of_sections(scores)
    if len(entries) > 1:
        told.append(
            f"A is {entries[0].title}. The others were compared with it: each score minus that of A, on the "
            "same draws, with the interval of that difference; intervals are not corrected for being several."
        )
    if comparison is not None and comparison.pairs:
        told.append(of_tests(comparison))
    return " ".join(told)


def of_tests(found: Comparison) -> str:
    """Say which tests there are of the differences of several."""
    tested = dict.fromkeys(score_words(pair.score).title for pair in found.pairs)
    swaps = max(pair.worlds for pair in found.pairs)
    exact = "all" if any(pair.exact for pair in found.pairs) else "drawn"
    beside = list(dict.fromkeys(test.name for pair in found.pairs for test in pair.tests))
    more = f" Beside it stand {'; '.join(beside)}." if beside else ""
    return (
        f"{' and '.join(tested)} were tested two-sided by paired permutation, answers swapped for "
        f"{_drawn(found.unit)} ({swaps:,} swaps, {exact}; seed {found.seed}), and corrected by Holm for "
        f"{plural(found.family, 'test')}.{more}"
    )


def of_intervals(scores: Scores) -> str:
    """Say how intervals were made."""
    level = f"{LEVEL:.0%}".replace("%", " %")
    draws = f"{plural(scores.draws, 'draw')} of {_drawn(scores.unit)}"
    return (
        f"Intervals are {level}, by {scores.intervals_in_words}: {draws} "
        f"({scores.clusters:,} of them), seed {scores.seed}; "
        f"shares that no draw changes have exact ones, every {scores.unit} counting once."
    )


def _drawn(unit: str) -> str:
    return units(unit) if unit == "image" else f"whole {units(unit)}"


def _of_sections(scores: Scores) -> list[str]:
    told = []
    if scores.calibration is not None:
        again = [_AGAIN.get(one.of, one.of) for one in scores.calibration.recalibrated]
        after = (
            f", as given and after {' and '.join(again)} fitted on {scores.calibration.fitted_on}"
            if again
            else ""
        )
        told.append(
            f"Calibration was measured by Brier score, log loss and a debiased error over ten bins{after}."
        )
        if (prior := scores.calibration.prior) is not None:
            shares = ", ".join(f"{name} {share:.3g}" for name, share in prior.new.items())
            told.append(
                f"Probabilities were also moved from the shares of {prior.old_from} to those stated "
                f"({shares}), and measured on rows weighted to the latter."
            )
    if scores.operating is not None and scores.operating.decision is not None:
        told.append("Net benefit was computed over threshold probabilities.")
    if (sets := scores.prediction_sets) is not None:
        told.append(
            f"Conformal sets were to hold the truth of {sets.asked:.0%} and fitted on {sets.fitted_on}"
            f"{_thresholds_by(sets)}."
        )
    if scores.selective is not None:
        told.append("Selective prediction left the rows of lowest top probability out, one after the other.")
    if scores.hierarchy is not None:
        told.append(f"Probabilities were added up by diagnosis hierarchy ({scores.hierarchy.source}).")
    if (held := scores.subgroups) is not None:
        columns = quoted([c.column for c in held.columns], "and")
        told.append(
            f"Subgroups by {columns} were scored, each with its gap to all other rows on the same draws, "
            f"but for those of fewer than {held.fewest_units} {units(scores.unit)}, or of a class."
        )
    if bad := dangerous(scores.classes):
        told.append(f"Of the classes, the diagnosis map of panderm calls {quoted(bad, 'and')} malignant.")
    return told


def _thresholds_by(sets: PredictionSets) -> str:
    columns = [kind.column for kind in sets.kinds if kind.column is not None]
    return f", with thresholds by {quoted(columns, 'and')} too" if columns else ""


def of_software(entries: Sequence[Entry]) -> str:
    """Say which software took part, in which versions, and on what machine."""
    told = []
    for entry in entries:
        card = entry.predictions.card
        runs = [card.provenance, *([card.embeddings.provenance] if card.embeddings else [])]
        for run in runs:
            versions = ", ".join(
                f"{words} {run.versions[n]}" for n, words in _PACKAGES.items() if n in run.versions
            )
            told.append(f"panderm {run.panderm} ({versions}; {run.machine})")
    return f"Software: {'; '.join(dict.fromkeys(told))}."
