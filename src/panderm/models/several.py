"""Which encoders, each with which weights, and whether all are sound before the first image is embedded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from panderm.embeddings import EncoderRecord
from panderm.errors import UsageError, plural, some
from panderm.models.encoder import Encoder


def paired(
    encoder: str | Sequence[str] | None,
    weights: Path | str | Sequence[Path | str | None] | None,
    card: Path | str | None,
) -> list[tuple[str | None, Path | str | None]]:
    """Return each encoder's name and weights file; no name where its card or its file has to say it."""
    names: list[str | None] = [encoder] if isinstance(encoder, str) else list(encoder or ())
    files = [weights] if isinstance(weights, Path | str) else list(weights or ())
    if not names and card is None and None in (files or [None]):
        raise UsageError(
            "a run must have an encoder.",
            "found neither --encoder nor --card, nor weights that say what they are",
            "for example --encoder panderm-large, or --card my.json for one of your own",
        )
    if card is not None and len(names) > 1:
        raise UsageError(
            "--card must stand beside one encoder only.",
            f"found {len(names)} encoders: {some(names)}",
            "run each with its own --out, then panderm report A/probe.pred B/probe.pred --out both.html",
        )
    names = names or [None] * (len(files) if files and card is None else 1)
    if files and len(files) != len(names):
        given = some(["-" if file is None else file for file in files])
        raise UsageError(
            "--weights must be given once for each --encoder, in the same order, or not at all.",
            [
                f"found {plural(len(names), 'encoder')}: {some([name or card for name in names])}",
                f"found {plural(len(files), 'weights file')}: {given}",
            ],
            "give --weights - for an encoder that needs none",
        )
    return list(zip(names, files or [None] * len(names), strict=True))


@dataclass(frozen=True)
class Eye:
    """An encoder that was found sound: what it is, and how to have it."""

    record: EncoderRecord
    load: Callable[[], Encoder]


def checked(
    choices: Sequence[tuple[str | None, Path | str | None]],
    load: Callable[[str | None, Path | str | None], Encoder],
) -> list[Eye]:
    """Load every encoder, so that a wrong file is refused before the first image is embedded.

    A single one is kept. Of several only the records are, and each is loaded again when its turn comes: six
    large networks would fill the memory for hours, while reading a file twice takes seconds.
    """
    if len(choices) == 1:
        encoder = load(*choices[0])
        return [Eye(encoder.record, lambda: encoder)]
    eyes: list[Eye] = []
    for choice in choices:
        record = load(*choice).record
        for before in eyes:
            if decisive(before.record) == decisive(record):
                raise UsageError(
                    "encoders to be compared must differ.",
                    f"found {record.name} twice, with the same weights: {record.weights_sha256[:16]}",
                    "name it once, or give each its own --weights",
                )
        eyes.append(Eye(record, lambda choice=choice: load(*choice)))  # type: ignore[misc]
    return eyes


def decisive(record: EncoderRecord) -> dict[str, object]:
    """Return what decides the vectors: two records that agree in it are of the same encoder."""
    return record.model_dump(mode="json", exclude={"weights", "account"})
