"""A download in miniature: official names, official columns, and pictures drawn on the spot."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from panderm.data.sources.prepare import Preparation, prepare


@dataclass
class Download:
    """A user's folder of unpacked archives."""

    root: Path
    out: Path

    def table(self, name: str, rows: Sequence[Mapping[str, object]], *, separator: str = ",") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
            writer.writeheader()
            writer.writerows(rows)
        return path

    def images(self, *names: str) -> None:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = sum(ord(letter) * (i + 1) for i, letter in enumerate(path.stem))
            pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)

    def prepare(self, name: str, *, skip_missing: bool = False) -> Preparation:
        return prepare(name, self.root, out=self.out, skip_missing=skip_missing, overwrite=True)

    def written(self) -> list[dict[str, str]]:
        with self.out.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def compared(done: Preparation, of: str) -> tuple[int, int, bool | None]:
    """Return a published count's fate: how many in the table, how many on disk, whether it agrees."""
    one = next(count for count in done.counts if count.of == of)
    return one.in_table, one.on_disk, one.agrees
