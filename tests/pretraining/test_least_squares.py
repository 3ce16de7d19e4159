"""Fits in closed form against what was planted, and against plain solvers."""

from __future__ import annotations

import pytest
import torch

from panderm.pretraining.least_squares import Sums, fewest


def planted(n: int, p: int, q: int, noise: float, rank: int | None = None) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, p, generator=generator) * torch.linspace(0.2, 3, p)
    true = torch.randn(p, q, generator=generator)
    if rank is not None:
        true = torch.randn(p, rank, generator=generator) @ torch.randn(rank, q, generator=generator)
    y = x @ true + 5 + noise * torch.randn(n, q, generator=generator)
    return x, true, y


def sums_of(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None) -> Sums:
    sums = Sums()
    w = torch.ones(len(x)) if weights is None else weights
    cut = len(x) * 3 // 4
    sums.add(x[:cut], y[:cut], w[:cut])
    sums.add(x[cut:], y[cut:], w[cut:], aside=True)
    return sums


def test_rows_in_pieces_are_rows_at_once_and_a_weight_is_a_count() -> None:
    x, _, y = planted(40, 3, 2, 0.1)
    twice = torch.ones(40)
    twice[:10] = 2
    pieces, whole = Sums(), Sums()
    for at in range(0, 40, 8):
        pieces.add(x[at : at + 8].view(2, 4, 3), y[at : at + 8].view(2, 4, 2), twice[at : at + 8].view(2, 4))
    whole.add(torch.cat([x, x[:10]]), torch.cat([y, y[:10]]), torch.ones(50))
    for a, b in zip(pieces.fit, whole.fit, strict=True):
        assert torch.allclose(a, b, rtol=1e-5)


def test_without_noise_what_was_planted_is_found() -> None:
    x, true, y = planted(400, 12, 4, 0.0)
    ridge = sums_of(x, y).ridge(torch.zeros(13, 4))
    assert ridge.strength == 1e-4
    assert ridge.explained > 0.999
    found = ridge.solution()
    assert torch.allclose(found[:-1].float(), true, atol=2e-3)
    assert torch.allclose(found[-1].float(), torch.full((4,), 5.0), atol=2e-3)


def test_few_noisy_rows_stay_with_a_good_guess_and_leave_a_bad_one() -> None:
    x, true, y = planted(40, 12, 4, 8.0)
    guess = torch.cat([true, torch.full((1, 4), 5.0)])
    near, far = sums_of(x, y).ridge(guess), sums_of(x, y).ridge(guess * -3)
    assert near.strength == 10.0
    assert far.strength < near.strength
    assert float((near.solution()[:-1] - true).abs().max()) < float((far.solution()[:-1] - true).abs().max())


def test_the_ridge_is_the_textbook_s() -> None:
    x, _, y = planted(60, 5, 2, 1.0)
    ridge = sums_of(x, y).ridge(torch.zeros(6, 2), strengths=(0.5,))
    centred, level = (x - x.mean(0)).double(), (y - y.mean(0)).double()
    penalty = 0.5 * torch.diag(len(x) * centred.var(0, correction=0))
    expected = torch.linalg.solve(centred.T @ centred + penalty, centred.T @ level)
    assert torch.allclose(ridge.solution()[:-1], expected, rtol=1e-5, atol=1e-6)


def test_inputs_that_do_nothing_leave_first() -> None:
    x, true, y = planted(500, 90, 3, 0.0)
    needed = torch.tensor([2, 17, 40, 41, 88])
    others = torch.ones(90, dtype=torch.bool)
    others[needed] = False
    y = (
        y
        - x[:, others] @ true[others]
        + 0.05 * torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    )
    problem = sums_of(x, y).ridge(torch.zeros(91, 3), strengths=(1e-3,))
    assert fewest(problem, 5).tolist() == needed.tolist()
    assert len(fewest(problem, 60)) == 60


def test_a_map_of_low_rank_in_each_part_is_found() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(600, 16, generator=generator)
    maps = [torch.randn(8, 2, generator=generator) @ torch.randn(2, 6, generator=generator) for _ in range(2)]
    y = x @ torch.cat(maps) + 1
    ridge = sums_of(x, y).ridge(torch.zeros(17, 6))
    into, out = ridge.low_rank(2, 2)
    assert into.shape == (2, 8, 2)
    assert out.shape == (5, 6)
    for i in range(2):
        assert torch.allclose(into[i].T @ into[i], torch.eye(2, dtype=torch.float64), atol=1e-9)
        assert torch.allclose((into[i] @ out[2 * i : 2 * i + 2]).float(), maps[i], atol=5e-3)
    full, through = ridge.low_rank(2, 8)
    assert torch.allclose(torch.block_diag(*full) @ through[:-1], ridge.solution()[:-1], atol=1e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_of_one_part_no_map_of_that_rank_fits_better(rank: int) -> None:
    x, _, y = planted(300, 8, 8, 2.0)
    ridge = sums_of(x, y).ridge(torch.zeros(9, 8), strengths=(1e-4,))
    into, out = ridge.low_rank(1, rank)

    def loss(first: torch.Tensor, second: torch.Tensor) -> float:
        left = (y - y.mean(0)).double() - (x - x.mean(0)).double() @ first @ second
        return float(left.square().sum())

    best = loss(into[0], out[:-1])
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        moved = into[0] + 0.05 * torch.randn(8, rank, generator=generator, dtype=torch.float64)
        inner = (x - x.mean(0)).double() @ moved
        second = torch.linalg.lstsq(inner, (y - y.mean(0)).double()).solution
        assert loss(moved, second) > best * (1 - 1e-6)
