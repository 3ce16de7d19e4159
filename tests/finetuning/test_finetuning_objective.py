"""The loss of fine-tuning: torch's where torch has it, the same in parts, and weights that can be undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.utils.class_weight import compute_class_weight
from timm.loss import SoftTargetCrossEntropy
from torch.nn import functional

from panderm.errors import UsageError
from panderm.finetuning.mixing import Mix
from panderm.finetuning.objective import Objective, balanced_weights, log_prior_shift

N, K = 9, 4


@pytest.fixture
def logits() -> torch.Tensor:
    return 2 * torch.randn(N, K, generator=torch.Generator().manual_seed(0))


CODES = np.array([0, 1, 1, 3, 2, 2, 2, 0, 3])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_class_is_torchs_cross_entropy(logits: torch.Tensor, smoothing: float, weighted: bool) -> None:
    weights = np.array([0.5, 1.0, 2.0, 3.0]) if weighted else None
    objective = Objective(K, smoothing=smoothing, weights=weights)
    made = objective(logits, objective.targets(CODES))
    wanted = functional.cross_entropy(
        logits,
        torch.from_numpy(CODES),
        torch.tensor(weights).float() if weights is not None else None,
        reduction="none",
        label_smoothing=smoothing,
    )
    assert made.mean.item() == pytest.approx(wanted.mean().item(), rel=1e-6)
    assert made.weight == N


def test_mixed_labels_are_timms_loss_and_smoothing_commutes_with_mixing(logits: torch.Tensor) -> None:
    objective = Objective(K, smoothing=0.1)
    pixels, targets = torch.rand(N, 3, 8, 8), objective.targets(CODES)
    mixed = Mix(cutmix=0).apply(pixels, targets, key=(0, 0, 7)).targets
    before = Mix(cutmix=0).apply(pixels, targets * 0.9 + 0.1 / K, key=(0, 0, 7)).targets
    wanted = SoftTargetCrossEntropy()(logits, before)
    assert objective(logits, mixed).mean.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_several_labels_are_torchs_binary_loss_of_what_is_known(logits: torch.Tensor) -> None:
    truth = np.random.default_rng(0).integers(-1, 2, (N, K)).astype(np.int8)
    weights = np.array([[1, 2.0], [1, 3], [1, 0.5], [1, 1]])
    objective = Objective(K, "sigmoid", smoothing=0.0, weights=weights)
    targets = objective.targets(truth)
    known = torch.from_numpy(truth >= 0)
    each = functional.binary_cross_entropy_with_logits(
        logits, targets.nan_to_num(), reduction="none", pos_weight=torch.tensor(weights[:, 1]).float()
    )
    made = objective(logits, targets)
    assert made.mean.item() == pytest.approx(each[known].mean().item(), rel=1e-6)
    assert made.weight == pytest.approx(known.sum().item() / K)
    smooth = Objective(1, "sigmoid", smoothing=0.2)(torch.zeros(1, 1) + 3, torch.ones(1, 1)).mean.item()
    wanted = functional.binary_cross_entropy_with_logits(torch.tensor([3.0]), torch.tensor([0.9])).item()
    assert smooth == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_parts_of_a_batch_weigh_as_the_whole(logits: torch.Tensor, link: str) -> None:
    truth = np.random.default_rng(1).integers(-1, 2, (N, K)).astype(np.int8) if link == "sigmoid" else CODES
    weights = balanced_weights(truth, K, link)  # type: ignore[arg-type]
    objective = Objective(K, link, weights=weights)  # type: ignore[arg-type]
    targets = objective.targets(truth)
    whole = objective(logits, targets)
    parts = [objective(logits[i], targets[i]) for i in (slice(0, 2), slice(2, 9), slice(9, 9))]
    total = sum(part.mean.item() * part.weight for part in parts)
    assert sum(part.weight for part in parts) == pytest.approx(whole.weight)
    assert total / whole.weight == pytest.approx(whole.mean.item(), rel=1e-5)
    none = (
        objective(logits.requires_grad_(), torch.full((N, K), torch.nan)) if link == "sigmoid" else parts[2]
    )
    assert none.weight == 0
    assert none.mean.item() == 0


def test_balanced_weights_are_scikit_learns() -> None:
    wanted = compute_class_weight("balanced", classes=np.arange(K), y=CODES)
    assert np.allclose(balanced_weights(CODES, K), wanted)
    absent = balanced_weights(CODES, K + 2)
    assert np.allclose(absent[:K], wanted)
    assert absent[K:].tolist() == [1, 1]
    truth = np.array([[1, -1], [0, 1], [0, 1], [0, 1]], np.int8)
    assert np.allclose(balanced_weights(truth, 2, "sigmoid"), [[4 / 6, 2.0], [1.0, 1.0]])


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_the_shift_takes_class_weights_back(link: str) -> None:
    """Where every pattern is a parameter of its own, the fitted shares are known: those of the images."""
    rng = np.random.default_rng(2)
    shares = rng.dirichlet([3, 1, 0.5], size=5)  # of three classes, given one of five patterns
    pattern = rng.integers(0, 5, 4000)
    codes = np.array([rng.choice(3, p=shares[p]) for p in pattern])
    truth = codes if link == "softmax" else np.eye(3, dtype=np.int8)[codes]
    weights = balanced_weights(truth, 3, link)  # type: ignore[arg-type]
    table = torch.zeros(5, 3, requires_grad=True)
    objective = Objective(3, link, smoothing=0.0, weights=weights)  # type: ignore[arg-type]
    targets, rows = objective.targets(truth), torch.from_numpy(pattern)
    optimiser = torch.optim.LBFGS([table], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        loss = objective(table[rows], targets).mean
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    seen = np.array([np.bincount(codes[pattern == p], minlength=3) for p in range(5)], dtype=float)
    seen /= seen.sum(axis=1, keepdims=True)
    fitted = table.detach().numpy().astype(float)

    def probabilities(z: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(z, axis=1) if link == "softmax" else 1 / (1 + np.exp(-z)))

    assert np.abs(probabilities(fitted) - seen).max() > 0.05
    assert np.abs(probabilities(fitted + log_prior_shift(weights)) - seen).max() < 2e-3


def test_what_cannot_be_is_refused() -> None:
    for wrong in (
        {"classes": 1},
        {"classes": 3, "smoothing": 1.0},
        {"classes": 3, "weights": np.ones(2)},
        {"classes": 3, "weights": np.array([1, 0, 1.0])},
        {"classes": 3, "link": "sigmoid", "weights": np.ones(3)},
    ):
        with pytest.raises(UsageError):
            Objective(**wrong)
