"""Losses of masks: worked by hand, their gradients, images without a lesion, logits of any size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from panderm.errors import UsageError
from panderm.segmenting.learning.objective import SegmentationLoss, signed_distance, signed_distances

CROSS, DICE, BOUNDARY = (SegmentationLoss(*weights) for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


def logits_of(probability: Any) -> torch.Tensor:
    """Logits (1, 2, H, W) whose softmax gives P(inside); what is added to both classes does not matter."""
    p = torch.tensor(probability, dtype=torch.float64)
    return torch.stack([torch.full_like(p, 1.5), 1.5 + torch.log(p / (1 - p))])[None]


def masks_of(mask: Any) -> torch.Tensor:
    return torch.tensor(mask, dtype=torch.bool)[None]


def test_each_part_is_what_is_worked_out_by_hand() -> None:
    logits, masks = logits_of([[0.75, 0.5], [0.2, 0.9]]), masks_of([[1, 1], [0, 0]])
    right = (0.75, 0.5, 0.8, 0.1)  # the probability of what is true
    cross = -sum(math.log(p) for p in right) / 4
    dice = 1 - (2 * (0.75 + 0.5) + 1) / (0.75 + 0.5 + 0.2 + 0.9 + 2 + 1)
    boundary = (-0.25 * 0.75 - 0.25 * 0.5 + 0.25 * 0.2 + 0.25 * 0.9) / 4  # half a pixel of two is a quarter
    for loss, wanted in ((CROSS, cross), (DICE, dice), (BOUNDARY, boundary)):
        found = loss(logits, masks)
        assert float(found.mean) == pytest.approx(wanted)
        assert found.weight == 1.0
    every = SegmentationLoss(0.5, 2.0, 4.0)(logits, masks)
    assert float(every.mean) == pytest.approx(0.5 * cross + 2 * dice + 4 * boundary)
    parts = {name: pytest.approx(float(part)) for name, part in every.parts.items()}
    assert parts == {"cross_entropy": cross, "dice": dice, "boundary": boundary}
    assert set(CROSS(logits, masks).parts) == {"cross_entropy"}


def test_a_batch_is_the_mean_of_its_images() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(5, 2, 8, 8), torch.rand(5, 8, 8) > 0.6
    for loss in (CROSS, DICE, BOUNDARY, SegmentationLoss(1, 1, 0.1)):
        each = [float(loss(logits[i : i + 1], masks[i : i + 1]).mean) for i in range(5)]
        whole = loss(logits, masks)
        assert float(whole.mean) == pytest.approx(sum(each) / 5, abs=1e-6)
        assert whole.weight == 5.0
        given = loss(logits, masks, signed_distances(masks))
        assert torch.equal(given.mean, whole.mean)


def test_gradients_are_those_of_the_formulas() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(2, 3, 4) > 0.5
    masks[1] = False
    for loss in (CROSS, DICE, BOUNDARY, SegmentationLoss(1, 2, 3)):

        def of(x: torch.Tensor, loss: SegmentationLoss = loss) -> torch.Tensor:
            return loss(x, masks).mean

        assert torch.autograd.gradcheck(of, (logits,))


@pytest.mark.parametrize("weights", [(1, 1, 1), (0, 1, 0), (0, 0, 1), (1, 0, 0)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_logits_of_any_size_give_finite_losses_and_gradients(
    weights: tuple[float, float, float], dtype: torch.dtype
) -> None:
    half = torch.zeros(8, 8, dtype=torch.bool)
    half[:, :4] = True
    masks = torch.stack([half, torch.zeros_like(half), torch.ones_like(half)])
    for size in (0.0, 1e-7, 30.0, 65504.0):
        for sign in (1.0, -1.0):
            logits = torch.zeros(3, 2, 8, 8)
            logits[:, 1], logits[:, 0] = sign * size, -sign * size
            logits = logits.to(dtype).requires_grad_()
            found = SegmentationLoss(*weights)(logits, masks)
            found.mean.backward()  # type: ignore[no-untyped-call]
            assert found.mean.dtype == torch.float32
            assert torch.isfinite(found.mean)
            assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def test_an_image_without_a_lesion_has_a_loss_that_asks_for_none() -> None:
    empty, full = torch.zeros(1, 10, 10, dtype=torch.bool), torch.ones(1, 10, 10, dtype=torch.bool)
    nothing, all_of_it = (torch.zeros(1, 2, 10, 10) for _ in range(2))
    nothing[:, 0] = all_of_it[:, 1] = 50.0
    assert float(DICE(nothing, empty).mean) == pytest.approx(0, abs=1e-6)
    assert float(DICE(all_of_it, full).mean) == pytest.approx(0, abs=1e-6)
    assert float(DICE(all_of_it, empty).mean) == pytest.approx(1 - 1 / 101)
    assert float(DICE(nothing, full).mean) == pytest.approx(1 - 1 / 101)
    unsure = torch.zeros(1, 2, 10, 10, requires_grad=True)
    DICE(unsure, empty).mean.backward()  # type: ignore[no-untyped-call]
    assert unsure.grad is not None
    assert (unsure.grad[:, 1] > 0).all()  # a step lowers P(inside)
    for mask in (empty, full):
        for logits in (nothing, all_of_it):
            assert float(BOUNDARY(logits, mask).mean) == 0


def test_distances_are_euclidean_and_begin_between_pixels() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 6), (7, 5), (40, 40), (64, 33)):
        mask = rng.random(shape) > 0.7
        mask.flat[0], mask.flat[-1] = True, False
        side = max(shape)
        inside, outside = distance_transform_edt(mask), distance_transform_edt(~mask)
        wanted = np.where(mask, 0.5 - inside, outside - 0.5) / side
        found = signed_distance(mask)
        assert found.dtype == np.float32
        assert found == pytest.approx(wanted, abs=1e-5)
        assert np.array_equal(signed_distance(~mask), -found)
    side = np.random.default_rng(1).random((32, 32)) > 0.9
    wanted = signed_distance(side)
    for first in range(8):  # a run that goes on has the same bits, wherever its arrays lie
        moved = np.zeros(32 * 32 + 8, bool)[first : first + 32 * 32].reshape(32, 32)
        moved[:] = side
        assert np.array_equal(signed_distance(moved), wanted)
    for nothing in (np.zeros((4, 4), bool), np.ones((4, 4), bool)):
        assert not signed_distance(nothing).any()
    assert signed_distances(torch.zeros(0, 4, 4, dtype=torch.bool)).shape == (0, 4, 4)


def test_the_mask_itself_has_the_least_boundary_loss_and_a_step_moves_towards_it() -> None:
    down, across = np.mgrid[0:24, 0:24]
    mask = np.hypot(down - 11.3, across - 10.8) < 6
    masks = torch.from_numpy(mask)[None]

    def of(guess: np.ndarray[Any, Any]) -> float:
        sure = torch.from_numpy(guess.astype(np.float64)) * 200 - 100
        return float(BOUNDARY(torch.stack([torch.zeros_like(sure), sure])[None], masks).mean)

    least = of(mask)
    assert least < 0
    shifted = [of(np.roll(mask, k, axis=1)) for k in (1, 2, 4)]
    assert least < shifted[0] < shifted[1] < shifted[2]
    assert of(np.zeros_like(mask)) == pytest.approx(0, abs=1e-9)
    assert of(np.ones_like(mask)) > 0
    logits = torch.zeros(1, 2, 24, 24, requires_grad=True)
    for _ in range(200):
        (step,) = torch.autograd.grad(BOUNDARY(logits, masks).mean, logits)
        logits = (logits - 500 * step).detach().requires_grad_()
    assert torch.equal(logits[0, 1] > logits[0, 0], masks[0])


@pytest.mark.parametrize("weights", [(0, 0, 0), (-1, 1, 0), (math.nan, 1, 0), (1, math.inf, 0)])
def test_weights_that_mean_nothing_are_refused(weights: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="weights of the losses"):
        SegmentationLoss(*weights)


def test_shapes_that_do_not_agree_are_refused() -> None:
    for logits, masks in (
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool)),
        (torch.zeros(1, 2, 8, 8), torch.zeros(1, 4, 4, dtype=torch.bool)),
        (torch.zeros(2, 8, 8), torch.zeros(2, 8, 8, dtype=torch.bool)),
    ):
        with pytest.raises(UsageError, match="logits must be"):
            CROSS(logits, masks)
