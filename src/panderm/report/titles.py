"""What each of several predictions is called: its encoder, and whatever else tells it from its namesakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from panderm.predictions import PredictionsCard
from panderm.report.words import plain


def titles(cards: Sequence[PredictionsCard]) -> list[str]:
    """Return one name for each card, no two alike.

    A name of its own stands alone. Namesakes say in what they differ: weights, pooling, input size, precision
    or a setting of the method; where they differ in none of these, the beginning of their identity.
    """
    names = [card.embeddings.encoder.name for card in cards]
    found = []
    for card, name in zip(cards, names, strict=True):
        namesakes = [_facts(c) for c, other in zip(cards, names, strict=True) if other == name]
        own = _facts(card)
        differ = [key for key in own if any(facts.get(key) != own[key] for facts in namesakes)]
        found.append(f"{name} ({', '.join(own[key] for key in differ)})" if differ else name)
    often = Counter(found)
    return [
        f"{title} ({card.identity[:8]})" if often[title] > 1 else title
        for title, card in zip(found, cards, strict=True)
    ]


def _facts(card: PredictionsCard) -> dict[str, str]:
    encoder = card.embeddings.encoder
    facts = {
        "weights": f"weights {encoder.weights_sha256[:8]}",
        "pool": f"pool {encoder.pool}",
        "size": f"{encoder.image_size} pixels",
        "precision": encoder.precision,
    }
    # What follows from the others would only make the name longer.
    told = {k: v for k, v in card.method.items() if isinstance(v, str | int | float) and k != "penalty"}
    return facts | {key: f"{key.replace('_', ' ')} {plain(value)}" for key, value in told.items()}
