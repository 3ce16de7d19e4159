"""What each of several predictions is called: its encoder, and whatever else tells it from its namesakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from panderm.embeddings import EmbeddingsCard
from panderm.predictions import PredictionsCard
from panderm.report.words import plain


def titles(cards: Sequence[PredictionsCard]) -> list[str]:
    """Return one name for each card of predictions, no two alike; see :func:`titles_of`."""
    made = [(card.embeddings, card.method, card.identity) for card in cards if card.embeddings]
    own = iter(titles_of(made))
    found = [next(own) if card.embeddings else card.model for card in cards]
    often = Counter(found)
    return [
        f"{title} ({card.identity[:8]})" if often[title] > 1 else title
        for title, card in zip(found, cards, strict=True)
    ]


def titles_of(made: Sequence[tuple[EmbeddingsCard, Mapping[str, Any], str]]) -> list[str]:
    """Return one name for each of some embeddings and what was made of them: method and identity.

    A name of its own stands alone. Namesakes say in what they differ: weights, pooling, input size, precision
    or a setting of the method; where they differ in none of these, the beginning of their identity.
    """
    names = _names(made)
    facts = [_facts(card, method) for card, method, _ in made]
    found = []
    for own, name in zip(facts, names, strict=True):
        namesakes = [other for other, its in zip(facts, names, strict=True) if its == name]
        differ = [key for key in own if any(other.get(key) != own[key] for other in namesakes)]
        found.append(f"{name} ({', '.join(own[key] for key in differ)})" if differ else name)
    often = Counter(found)
    return [
        f"{title} ({identity[:8]})" if often[title] > 1 else title
        for title, (_, _, identity) in zip(found, made, strict=True)
    ]


def _names(made: Sequence[tuple[EmbeddingsCard, Mapping[str, Any], str]]) -> list[str]:
    """Return the encoders' names; where columns of the table take part, what each was shown."""
    one_encoder = len({card.identity for card, _, _ in made}) == 1
    with_columns = any("sees" in method for _, method, _ in made)
    names = []
    for card, method, _ in made:
        sees = method.get("sees")
        if sees == "columns alone" or (sees and one_encoder):
            names.append(str(sees))
        elif sees:
            names.append(f"{card.encoder.name} and columns")
        else:
            names.append("images alone" if with_columns and one_encoder else card.encoder.name)
    return names


def _facts(card: EmbeddingsCard, method: Mapping[str, Any]) -> dict[str, str]:
    encoder = card.encoder
    facts = {
        "weights": f"weights {encoder.weights_sha256[:8]}",
        "pool": f"pool {encoder.pool}",
        "size": f"{encoder.image_size} pixels",
        "precision": encoder.precision,
    }
    # What follows from the others would only make the name longer.
    told = {k: v for k, v in method.items() if isinstance(v, str | int | float) and k != "penalty"}
    return facts | {key: f"{key.replace('_', ' ')} {plain(value)}" for key, value in told.items()}
