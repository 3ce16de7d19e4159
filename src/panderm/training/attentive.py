"""A learned query over patch tokens, its learning rate and last epoch chosen on held-out rows."""

from __future__ import annotations

from typing import Any

import torch

from panderm.errors import DataError
from panderm.fitted.attentive import FittedAttentive, attend
from panderm.models.device import pick_device
from panderm.training.descent import Candidate, Weights, schedule_for
from panderm.training.early_stop import fit_early_stopped
from panderm.training.features import Features
from panderm.training.settings import ProbeSettings

RATES, DECAY = (1e-3, 3e-3, 3e-4), 0.1
_BATCH, _STEPS = 64, 5000
_HEAD = 64  # numbers a head, as in the encoders themselves


def fit_attentive(
    settings: ProbeSettings,
    train: Features,
    val: Features | None,
    *,
    method: dict[str, Any],
    progress: bool = False,
) -> tuple[FittedAttentive, dict[str, Any]]:
    """Fit a learned query over patch tokens by AdamW with an early stop.

    It begins as a linear probe on the mean of the tokens: a query of 0, values as they are, a last layer of
    0. The rate (0.0003, 0.001 or 0.003) and the epoch are those of least log loss on held-out rows, see
    :func:`panderm.training.early_stop.fit_early_stopped`; all rates see a batch when it is read. With one
    seed one processor gives one answer.

    Returns:
        The probe, and what was chosen on what.

    Raises:
        DataError: see :func:`panderm.training.fit.fit_probe`; or rows that are no tokens.
    """
    if train.X.ndim != 4:
        raise DataError(
            "an attentive probe needs patch tokens.",
            f"found one vector of {train.X.shape[-1]:,} numbers an image",
            "embed with tokens: panderm embed … --tokens",
        )
    D = int(train.X.shape[-1])
    heads = next(h for h in range(max(1, D // _HEAD), 0, -1) if D % h == 0)

    def candidates(rows: Features, bias: Weights) -> list[Candidate]:
        start = {
            "query": torch.zeros(heads, D),
            "value.weight": torch.eye(D).reshape(heads, D // heads, D),
            "value.bias": torch.zeros(D),
            "output.weight": torch.zeros(len(rows.present), D),
        }
        return [Candidate({**start, **bias}, rate, DECAY, {"rate": rate}) for rate in RATES]

    schedule = schedule_for(len(train), batch=_BATCH, steps=_STEPS)
    learned, told = fit_early_stopped(
        attend, candidates, settings, train, val, schedule=schedule, progress=progress
    )
    device = str(pick_device(settings.device))
    probe = FittedAttentive(
        classes=train.classes, method=method, learned=learned, device=device, progress=progress
    )
    return probe, {**told, "heads": heads, "tokens": [int(n) for n in train.X.shape[1:3]]}
