"""What a page calls each of several entries: a letter, a colour, a title and facts in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from panderm.embeddings import EncoderRecord
from panderm.errors import plural
from panderm.predictions import PredictionsCard
from panderm.report.drawing.svg import SERIES
from panderm.report.entry import Entry
from panderm.report.with_columns import sees_in_words, without_image
from panderm.report.words import short

# A column is as wide as its numbers; above this many entries it has no room for a name as well.
_NAMED_COLUMNS = 6


@dataclass(frozen=True)
class Key:
    """How one entry is called in the page.

    Attributes:
        letter: A, B, ...
        colour: from 1 to 6.
        title: no two alike.
        short: what the head of a column says beside the letter, empty where there are too many for it.
        facts: in a line.
        random: whether its weights were drawn at random.
        own: what of the title the others' do not share.
    """

    letter: str
    colour: int
    title: str
    short: str
    facts: str
    random: bool
    own: str = ""

    @property
    def name(self) -> str:
        """Letter and title, as captions and files of points call it."""
        return f"{self.letter} {self.title}"

    @property
    def label(self) -> str:
        """Letter and what tells the title from the others, as the legend of a drawing calls it."""
        return f"{self.letter} {self.own}"


def keys_of(entries: Sequence[Entry]) -> list[Key]:
    """Give every entry its letter and colour."""
    keys = []
    for i, (entry, own) in enumerate(zip(entries, _own([one.title for one in entries]), strict=True)):
        card = entry.predictions.card
        encoder = card.embeddings.encoder if card.embeddings else None
        blind = without_image(card.method)
        keys.append(
            Key(
                letter=letter_of(i),
                colour=i % len(SERIES) + 1,
                title=entry.title,
                own=own,
                short=short(own, 32) if len(entries) <= _NAMED_COLUMNS else "",
                facts=" · ".join(_facts(card, encoder, blind=blind)),
                random=encoder is not None and encoder.random and not blind,
            )
        )
    return keys


def letter_of(position: int) -> str:
    """Return the letter of an entry by its position, from 0; after Z numbers go on."""
    return chr(ord("A") + position) if position < 26 else str(position + 1)


def listed(words: Sequence[str]) -> str:
    """Return ``"A, B and C"``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def each(keys: Sequence[Key], texts: Sequence[str]) -> list[str]:
    """Return a sentence once where it is true of all entries, else with the letters of those it is true of.

    Args:
        keys: of the entries.
        texts: of each entry, one.
    """
    if len(set(texts)) == 1:
        return [texts[0]]
    order = list(dict.fromkeys(texts))
    told = sorted(zip(texts, keys, strict=True), key=lambda pair: order.index(pair[0]))
    found = []
    for text, those in groupby(told, key=lambda pair: pair[0]):
        found.append(f"{listed([key.letter for _, key in those])}: {text}")
    return found


def _own(titles: Sequence[str]) -> list[str]:
    """Return titles without a name that others have too, as "probe knn" of "encoder (probe knn)"."""
    parts = [title.partition(" (") for title in titles]
    often = Counter(name for name, _, rest in parts if rest.endswith(")"))
    own = [
        rest[:-1] if often[name] > 1 and rest.endswith(")") else title
        for title, (name, _, rest) in zip(titles, parts, strict=True)
    ]
    return own if len(set(own)) == len(own) else list(titles)


def _facts(card: PredictionsCard, encoder: EncoderRecord | None, *, blind: bool) -> list[str]:
    if encoder is None:
        assert card.file is not None
        return [f"read from {card.file.path}", f"SHA-256 {card.file.sha256[:12]}…"]
    seen = sees_in_words(card.method)
    facts = [
        encoder.architecture,
        plural(encoder.dim, "number") + " an image",
        f"{encoder.image_size} × {encoder.image_size} pixels",
        f"pool {encoder.pool}",
        encoder.precision,
        f"licence: {encoder.licence or 'not stated'}",
    ]
    return [*(["no image"] if blind else facts), *([seen] if seen else [])]
