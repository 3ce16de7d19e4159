"""What the numbers of a page must not be read as."""

from __future__ import annotations

from panderm.errors import plural
from panderm.report.authors.frequencies import quoted
from panderm.report.entry import Entry
from panderm.report.words import units
from panderm.scores import Scores

# Fewer units than this, or rows of a class that counts, and one more or less changes what is said.
FEW, FEW_ROWS = 10, 20
_NAMED = 6


def voiding(entry: Entry) -> list[str]:
    """Return what takes all meaning from the numbers, one sentence each."""
    card, found = entry.predictions.card, []
    if card.embeddings and card.embeddings.encoder.random and card.method.get("sees") != "columns alone":
        found.append(
            "The encoder’s weights are drawn at random: no number here says anything of a trained one."
        )
    if entry.scores.split == "train":
        found.append("The images scored are those that were learned from: on others it will do worse.")
    return found


def cautions(entry: Entry, *, dataset: bool = True) -> list[str]:
    """Return what else the numbers must not be taken for, one sentence each, the weightiest first.

    Args:
        entry: whose numbers.
        dataset: name the rows they are of.
    """
    card, scores = entry.predictions.card, entry.scores
    where = (
        f"one table ({card.dataset}), another than the probe was fitted on"
        if card.fitted_on
        else f"one dataset ({card.dataset})"
    )
    told = f"They are of {where}: other clinics, cameras and skin tones may fare otherwise"
    found = [told] if dataset else []
    found += [_of_validation(entry)] if scores.split == "val" else []
    held = scores.operating
    if held is not None and not held.locked and any(p.target.aim != "threshold" for p in held.points):
        found.append("Thresholds were chosen on the very rows that are scored, which flatters them")
    found += _of_size(scores)
    estimated = [c.column for c in scores.subgroups.columns if c.error] if scores.subgroups else []
    if estimated:
        verb = "is an estimate" if len(estimated) == 1 else "are estimates"
        found.append(f"{quoted(estimated, 'and')} {verb} of a program, not what anyone saw")
    if card.outcome.get("converged") is False:
        found.append("The fit stopped before it had converged")
    if card.embeddings is None:
        found.append("The predictions were read from a file, and how they were made is not known here")
    if card.embeddings and card.embeddings.table.note:
        found.append(card.embeddings.table.note.rstrip("."))
    return [f"{one}." for one in found]


def _of_validation(entry: Entry) -> str:
    outcome = entry.predictions.card.outcome
    chose = [str(v) for k, v in outcome.items() if k.endswith("chosen on") and " validation rows" in str(v)]
    if chose:
        return "The validation split was scored, and settings of the probe were chosen on it, which flatters"
    return "The validation split was scored: whatever was chosen on it flatters these numbers"


def _of_size(scores: Scores) -> list[str]:
    found = []
    if scores.clusters < FEW:
        found.append(
            f"The intervals rest on {plural(scores.clusters, scores.unit)} only and are too narrow: "
            "one patient more could change them"
        )
    elif scores.unit in ("image", "lesion group"):
        found.append(
            f"No patients are named, so {units(scores.unit)} were taken as independent; where several are of "
            "one patient, intervals are too narrow"
        )
    few = {name: one.n for name, one in scores.per_class.items() if one.n < FEW_ROWS}
    if few:
        told = [f"{plural(n, scores.row)} of “{name}”" for name, n in few.items()]
        rest = (
            f" and of {plural(len(told) - _NAMED, 'class', 'classes')} more as few"
            if len(told) > _NAMED
            else ""
        )
        verb = "is" if next(iter(few.values())) == 1 else "are"
        found.append(f"There {verb} only {', '.join(told[:_NAMED])}{rest}")
    return found
