"""The loss: a case worked by hand, another in plain NumPy, and what it does at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from panderm.errors import DataError, UsageError
from panderm.pretraining.objective import TokenWeights, alignment

# CLS points as the teacher's (1 - cos = 0), the visible patch at a right angle (1), the masked one away (2).
PREDICTED = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [-1.0, -1.0]]])
TARGET = torch.tensor([[[1.0, 0.0], [5.0, 0.0], [4.0, 4.0]]])
MASK = torch.tensor([[False, True]])


@pytest.mark.parametrize(
    ("weights", "loss"),
    [
        (TokenWeights(), 1.0),  # (0 + 1 + 2) / 3
        (TokenWeights(1, 2, 3), 8 / 6),  # (0 + 2 + 6) / 6
        (TokenWeights(0, 0, 5), 2.0),
        (TokenWeights(0, 1, 0), 1.0),
        (TokenWeights(1, 0, 0), 0.0),
    ],
)
def test_a_case_worked_by_hand(weights: TokenWeights, loss: float) -> None:
    found = alignment(PREDICTED, TARGET, MASK, weights)
    assert float(found.loss) == pytest.approx(loss, abs=1e-6)
    parts = [float(part) for part in found[1:]]
    assert parts == pytest.approx([0, 1, 2], abs=1e-6)  # whatever the weights


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    predicted, target = (torch.randn(3, 17, 8, generator=generator) for _ in range(2))
    mask = torch.zeros(3, 16, dtype=torch.bool)
    mask[0, :4] = mask[1, 5:9] = mask[2, ::4] = True
    return predicted, target, mask


def test_it_is_the_weighted_mean_over_all_tokens_in_numpy() -> None:
    predicted, target, mask = drawn()
    p, t = predicted.double().numpy(), target.double().numpy()
    off = 1 - (p * t).sum(-1) / np.linalg.norm(p, axis=-1) / np.linalg.norm(t, axis=-1)
    kinds = np.concatenate([np.full((3, 1), 0.5), np.where(mask.numpy(), 2.0, 1.5)], axis=1)
    found = alignment(predicted, target, mask, TokenWeights(0.5, 1.5, 2))
    assert float(found.loss) == pytest.approx((kinds * off).sum() / kinds.sum(), abs=1e-6)
    assert float(alignment(predicted, target, mask).loss) == pytest.approx(off.mean(), abs=1e-6)
    assert float(found.cls) == pytest.approx(off[:, 0].mean(), abs=1e-6)
    assert float(found.masked) == pytest.approx(off[:, 1:][mask.numpy()].mean(), abs=1e-6)
    assert float(found.visible) == pytest.approx(off[:, 1:][~mask.numpy()].mean(), abs=1e-6)


def test_the_gradient_is_that_of_the_definition() -> None:
    predicted, target, mask = drawn()
    predicted = predicted[:1, :5].requires_grad_()
    target, mask = target[:1, :5].requires_grad_(), mask[:1, :4]
    mask[0, 0] = False
    alignment(predicted, target, mask, TokenWeights(1, 2, 3)).loss.backward()
    assert target.grad is None  # the teacher is frozen
    assert predicted.grad is not None
    step = 1e-3
    for place in [(0, 0, 1), (0, 2, 3), (0, 4, 7)]:
        up, down = predicted.detach().clone(), predicted.detach().clone()
        up[place] += step
        down[place] -= step
        difference = [float(alignment(x, target, mask, TokenWeights(1, 2, 3)).loss) for x in (up, down)]
        assert float(predicted.grad[place]) == pytest.approx(
            (difference[0] - difference[1]) / 2 / step, abs=2e-4
        )
    # Longer or shorter tokens are as good: the gradient has no part along them.
    assert float((predicted.grad * predicted.detach()).sum(-1).abs().max()) < 1e-6


def test_half_precision_is_compared_in_single() -> None:
    predicted, target, mask = drawn()
    for dtype in (torch.bfloat16, torch.float16):
        found = alignment(predicted.to(dtype), target, mask)
        assert found.loss.dtype == torch.float32
        rounded = alignment(predicted.to(dtype).float(), target, mask)
        assert float(found.loss) == float(rounded.loss)
    large = alignment(torch.full((1, 3, 8), 3e4, dtype=torch.float16), torch.full((1, 3, 8), 1.0), MASK)
    assert float(large.loss) == pytest.approx(0, abs=1e-6)  # its square does not fit float16


def test_a_token_of_length_zero_is_at_a_right_angle() -> None:
    predicted = torch.zeros(1, 3, 2, requires_grad=True)
    found = alignment(predicted, TARGET, MASK)
    found.loss.backward()
    assert float(found.loss.detach()) == pytest.approx(1.0)
    assert predicted.grad is not None
    assert bool(torch.isfinite(predicted.grad).all())


def test_a_part_without_tokens_has_no_value() -> None:
    found = alignment(PREDICTED, TARGET, torch.zeros_like(MASK))
    assert math.isnan(float(found.masked))
    assert float(found.loss) == pytest.approx(1.0)


def test_tokens_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(DataError):
        alignment(PREDICTED, TARGET[:, :2], MASK)
    with pytest.raises(DataError):
        alignment(PREDICTED, TARGET, torch.zeros(1, 3, dtype=torch.bool))


@pytest.mark.parametrize("weights", [(0, 0, 0), (-1, 1, 1), (math.nan, 1, 1), (math.inf, 1, 1)])
def test_weights_that_weigh_nothing_are_refused(weights: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError):
        TokenWeights(*weights)
