"""What TensorBoard shows of a pretraining run: its losses, its probe, the spread of features, alarms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from panderm.training.long import tensorboard as long


class TensorBoard(long.TensorBoard):
    """A folder of event files of a pretraining run."""

    titles: ClassVar[Mapping[str, str]] = {
        **long.TensorBoard.titles,
        "cls": "loss/class token",
        "visible": "loss/visible",
        "masked": "loss/masked",
    }

    def epoch(self, line: Mapping[str, Any], *, step: int) -> None:
        """Write the probe's scores, the spread and the alarms of a journal line of an epoch."""
        for kind in ("knn", "linear"):
            self.scores(
                f"probe {kind}", ((line.get("probe") or {}).get(kind) or {}).get("scores", {}), step=step
            )
        for name, value in (line.get("spread") or {}).items():
            if name not in ("n", "dim"):
                self.number(f"spread/{name}", value, step=step)
        for sentence in line.get("alarms") or ():
            self._writer.add_text("alarms", sentence, step)
