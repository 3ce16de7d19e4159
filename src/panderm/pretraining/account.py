"""What a run was made of, in words: its parts, its settings, a paragraph for authors, what to cite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from panderm.errors import plural
from panderm.pretraining.followed import Followed
from panderm.report.authors.references import PANDERM
from panderm.report.words import moment, pairs, plain

Card: TypeAlias = Mapping[str, Any]
Facts: TypeAlias = list[tuple[str, str]]

CAE = "Zhang X. et al. CAE v2: Context Autoencoder with CLIP Target. TMLR (2023). arXiv:2211.09799"
RANKME = "Garrido Q. et al. RankMe. ICML (2023). arXiv:2210.02885"
_MADE_OF = {
    "source": "Images",
    "excluded": "Left out beforehand",
    "teacher": "Teacher",
    "init": "Where the student’s weights began",
    "probe": "Labelled images that watched",
}
_SETTINGS = {
    "student": "Student",
    "plan": "Optimisation",
    "masks": "Masks",
    "views": "Views",
    "weights": "Weights of the tokens in the loss",
    "settings": "Settings",
}


def part(card: Card, name: str) -> Card:
    """Return a record within a card; an empty one where there is none."""
    found = card.get(name)
    return found if isinstance(found, Mapping) else {}


def student_of(card: Card) -> str:
    """Return the student's name."""
    return str(part(card, "student").get("name", "a student"))


def teacher_of(card: Card) -> str:
    """Return the teacher's name."""
    return str(part(card, "teacher").get("name", "a teacher"))


def hidden_of(card: Card) -> str:
    """Return ``"98 of 196 patches hidden (block)"``; empty where it is not known."""
    masks = part(card, "masks")
    if not masks.get("masked"):
        return ""
    of = f" of {math.prod(masks['grid'])}" if masks.get("grid") else ""
    return f"{masks['masked']}{of} patches hidden ({masks.get('kind', 'block')})"


def steps_planned(card: Card) -> int:
    """Return how many steps the whole run has; 0 where not known."""
    images, batch, epochs = (int(part(card, "plan").get(name) or 0) for name in ("images", "batch", "epochs"))
    return epochs * max(1, images // batch) if batch else 0


def made_of(card: Card) -> list[tuple[str, Facts]]:
    """Return what took part, each under its title."""
    words = {"source": _source, "excluded": _excluded, "init": _init}
    return [
        (title, words.get(name, pairs)(part(card, name)))
        for name, title in _MADE_OF.items()
        if part(card, name)
    ]


def _source(held: Card) -> Facts:
    notes = [("note", str(note)) for note in held.get("notes", ())]
    several = [
        ("of it", f"{plural(int(one['count']), 'image')} of {one['where']} ({one['kind']})")
        for one in held.get("parts", ())
    ]
    return [
        (str(held.get("kind", "where")), str(held.get("where", ""))),
        ("images", f"{int(held.get('count', 0)):,}"),
        *several,
        *notes,
    ]


def _excluded(held: Card) -> Facts:
    rows = [("images left out", f"{int(held.get('excluded', 0)):,} of {int(held.get('of', 0)):,}")]
    for reason, count in part(held, "by").items():
        like = ", ".join(str(one["image"]) for one in part(held, "examples").get(reason, ())[:3])
        more = f" and {count - 3:,} more" if count > 3 else ""
        rows.append((reason, f"{count:,}{f': {like}{more}' if like else ''}"))
    for one in held.get("against", ()):
        rows.append(("held against", f"{plural(int(one['count']), 'image')} of {one['where']}"))
    told = {name: held[name] for name in ("near", "at_hand", "named", "patients", "bad") if name in held}
    names = {"near": "near-duplicates looked for", "at_hand": "of these, at hand", "named": "of these, named"}
    names |= {"patients": "patients named", "bad": "images that could not be looked at"}
    return rows + [(names[name], plain(value)) for name, value in told.items()]


def _init(held: Card) -> Facts:
    words = [("account", str(line)) for line in held.get("words", ())]
    return [*pairs({name: value for name, value in held.items() if name != "words"}), *words]


def settings(card: Card) -> list[tuple[str, Facts]]:
    """Return every setting, under the title of what it is of."""
    return [(title, pairs(part(card, name))) for name, title in _SETTINGS.items() if part(card, name)]


def methods(card: Card) -> list[str]:
    """Return sentences that authors take along."""
    hidden = hidden_of(card)
    lines = [
        f"A vision transformer ({student_of(card)}) was pretrained without labels by masked latent alignment "
        "(CAE v2; the method of PanDerm): it saw the visible patches of a random crop"
        f"{f' ({hidden})' if hidden else ''}, and a cross-attention regressor filled in the hidden ones; all "
        f"were trained to point the way of the tokens that a frozen teacher ({teacher_of(card)}) gives for "
        "the unmasked crop (mean of 1 − cosine).",
    ]
    plan = part(card, "plan")
    if plan:
        clip = plan.get("clip")
        epochs, images = (plural(int(plan.get(f"{one}s") or 0), one) for one in ("epoch", "image"))
        lines.append(
            f"AdamW, learning rate {plan.get('rate')} after {plan.get('warm_up')} epochs of warm-up, then a "
            f"cosine to {plan.get('least_rate')}, weight decay {plan.get('decay')}, "
            f"{f'gradients clipped at {clip:g}, ' if clip is not None else ''}batch "
            f"{int(plan.get('batch') or 0):,}, {epochs} of {images}, {plan.get('precision')}, "
            f"seed {plan.get('seed')}."
        )
    return lines


def to_cite(card: Card, *, spread: bool) -> list[str]:
    """Return the works to cite; ``spread``: whether the effective rank is shown."""
    teacher = part(card, "teacher").get("citation") or "the work that made it"
    found = [
        f"The method and the toolkit: {PANDERM}",
        f"The objective: {CAE}",
        f"The teacher, {teacher_of(card)}: {teacher}",
    ]
    return found + ([f"The effective rank: {RANKME}"] if spread else [])


def facts(run: Followed) -> Facts:
    """Return when and where it was run, and how far."""
    made = part(run.card, "provenance")
    rows = [
        ("begun", moment(str(made.get("created", "")))),
        ("machine", str(made.get("machine", "not stated"))),
        ("steps done", f"{int(run.step[-1]) if len(run.step) else 0:,} of {steps_planned(run.card):,}"),
    ]
    listing = part(run.card, "source").get("sha256")
    return rows + ([("sha256 of the listing", str(listing))] if listing else [])


def versions(card: Card) -> Sequence[tuple[str, str]]:
    """Return the packages that took part."""
    held: Mapping[str, str] = part(card, "provenance").get("versions", {})
    return list(held.items())
