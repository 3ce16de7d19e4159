"""From the table to the page: every file that a number rests on, its hash, and whether it is still that file.

Checked are files that are cheap to read again: tables, locks, files of predictions, weights up to a size.
Images are not: their hashes are those of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panderm.embeddings import EmbeddingsCard
from panderm.errors import PandermError, in_bytes, plural
from panderm.predictions import PredictionsCard
from panderm.provenance import Provenance, read_card, version
from panderm.report.entry import Entry
from panderm.report.section import Folded, Rows, Section
from panderm.report.words import moment
from panderm.storage import sha256_of_file, sha256_of_json

# Larger files are not hashed again for a page.
LARGEST = 200_000_000
HEADER = ("Step", "What", "SHA-256 or identity", "Made", "By", "Now")


@dataclass(frozen=True)
class Link:
    """One step of the chain.

    Attributes:
        step: what it is: table, images, weights, embeddings, predictions, scores, page.
        what: its file or its name.
        sha256: hex, of a file's bytes or of all that decides an artifact; None where there is none.
        made: when, UTC, ISO 8601; None where that is not known.
        by: command and version; None where that is not known.
        sound: whether it is now what it was; None where that was not looked at.
        checked: what was looked at, or why nothing was.
    """

    step: str
    what: str
    sha256: str | None
    made: str | None
    by: str | None
    sound: bool | None
    checked: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain text, booleans and None."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def provenance_chain(entry: Entry) -> list[Link]:
    """Return every step from the table, or a file of predictions, to the page; cheap ones are checked now."""
    card, scores = entry.predictions.card, entry.scores
    if card.embeddings is None:
        chain = [_predictions_file(card)]
    else:
        parents = [card.embeddings] if card.fitted_on is None else [card.fitted_on, card.embeddings]
        chain = [link for parent in parents for link in _of_embeddings(parent, card)]
    what = f"{card.model} on {card.split}, {plural(card.rows, 'row')}"
    made = card.provenance
    whole = "opened and whole"
    chain.append(Link("predictions", what, card.identity, made.created, _by(made), None, whole))
    if scores.subgroups is not None:
        file = Path(scores.subgroups.file)
        sound, told = _file(file, scores.subgroups.sha256)
        chain.append(Link("columns", file.name, scores.subgroups.sha256, None, None, sound, told))
    same = scores.predictions == card.identity
    told = "of these predictions" if same else "of OTHER predictions"
    what = f"{plural(scores.draws, 'draw')}, seed {scores.seed}"
    chain.append(Link("scores", what, sha256_of_json(scores.as_dict()), None, None, same, told))
    chain.append(Link("page", "this page", None, None, f"panderm {version()}", None, "made of the above"))
    return chain


def provenance_section(entries: Sequence[Entry]) -> Section:
    """Return the chain of each entry as a table."""
    chains = {entry.title: provenance_chain(entry) for entry in entries}
    folded = [
        Folded(
            "The whole chain" if len(entries) == 1 else title,
            Rows(f"From the table to the page: {title}", HEADER, _rows(chain)),
            "chain",
        )
        for title, chain in chains.items()
    ]
    every = [link for chain in chains.values() for link in chain]
    changed = list(dict.fromkeys(f"{link.step} {link.what}" for link in every if link.sound is False))
    sound = len({(link.step, link.what) for link in every if link.sound})
    if changed:
        intro = f"No longer what was used: {'; '.join(changed)}. The numbers rest on what they were."
    else:
        verb = "is" if sound == 1 else "are"
        intro = f"{plural(sound, 'step')} looked at now {verb} what was used; nothing was found changed."
    more = "Images are not read again: their hashes are part of the table’s."
    return Section("provenance", "Provenance chain", [intro, more], folded=folded)


def _of_embeddings(card: EmbeddingsCard, of: PredictionsCard) -> list[Link]:
    table, encoder = card.table, card.encoder
    sound, told = _file(Path(table.csv), table.csv_sha256)
    chain = [Link("table", Path(table.csv).name, table.csv_sha256, None, None, sound, told)]
    if table.lock is not None:
        sound, told = _file(Path(table.csv).parent / table.lock.file, table.lock.sha256)
        created = table.lock.created
        chain.append(Link("split lock", table.lock.file, table.lock.sha256, created, None, sound, told))
    chain.append(
        Link("images", plural(table.rows, "image"), table.sha256, None, None, None, "not read again")
    )
    if encoder.weights is None:
        chain.append(Link("weights", "none: drawn at random", None, None, None, None, encoder.weights_sha256))
    else:
        sound, told = _file(Path(encoder.weights), encoder.weights_sha256)
        name = Path(encoder.weights).name
        chain.append(Link("weights", name, encoder.weights_sha256, None, encoder.source or None, sound, told))
    sound, told = _folder(card, of)
    what = f"{encoder.name}, {plural(card.rows, 'row')} of {encoder.dim}"
    made = card.provenance
    chain.append(Link("embeddings", what, card.identity, made.created, _by(made), sound, told))
    return chain


def _folder(card: EmbeddingsCard, of: PredictionsCard) -> tuple[bool | None, str]:
    """Say whether the folder that was predicted still holds these embeddings."""
    where = of.folders.get(card.identity)
    if where is None:
        return None, "where they lay is not known"
    try:
        there = read_card(Path(where), EmbeddingsCard, "embeddings")
    except PandermError:
        return None, "no longer where they lay"
    same = there.identity == card.identity
    return same, "identity as it was" if same else "OTHER embeddings lie there now"


def _predictions_file(card: PredictionsCard) -> Link:
    assert card.file is not None
    sound, told = _file(Path(card.file.path), card.file.sha256)
    name = Path(card.file.path).name
    return Link("file of predictions", name, card.file.sha256, None, None, sound, told)


def _file(path: Path, sha256: str) -> tuple[bool | None, str]:
    """Say whether a file still has a hash, unless it is gone or large."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            return None, f"there, {in_bytes(size)}, not read again"
        same = sha256_of_file(path) == sha256
    except OSError:
        return None, "not found where it was"
    return same, "hash as it was" if same else "CHANGED: another hash now"


def _by(made: Provenance) -> str:
    return f"{made.command} (panderm {made.panderm})"


def _rows(chain: Sequence[Link]) -> list[list[str]]:
    return [
        [
            link.step,
            link.what,
            link.sha256 or "—",
            moment(link.made) if link.made else "—",
            link.by or "—",
            link.checked,
        ]
        for link in chain
    ]
