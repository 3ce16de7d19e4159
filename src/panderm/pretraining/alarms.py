"""What goes wrong without the loss saying so: features that collapse, and parts that do not learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

# Measured, for comparison, on 2,000 dermoscopic images: DINOv2 ViT-S/14 has a mean cosine of 0.78 and an
# effective rank of 183 of 384 (68 with 128 images); weights of a ViT-Ti drawn at random 0.90 and 17 of 192.

# Above this mean cosine features point one way: they deviate from their mean by √(1 − 0.99), a tenth of what
# features without a mean do. DINOv2's reach it where they are moved to a fifth of their distance from it.
POINT_ONE_WAY = 0.99
# DINOv2's features, projected on 4 directions, have an effective rank of 4, on 16 of 12.
FEWEST_DIRECTIONS = 8.0
# A rank below half of the best so far was lost, not shaken: between halves of the images it varies by 5 %.
FELL = 0.5
# Steps whose means are compared: enough that the noise of a batch does not decide.
ENOUGH_STEPS = 20
# The loss rose by more than this part of how far it had fallen.
ROSE = 0.5
# So many looks a run may have before the regressor must know more than the mean token: 3 of 20.
SETTLED = 3


@dataclass(frozen=True)
class Spread:
    """How much of their space features use.

    Attributes:
        n: images.
        dim: D, numbers an image.
        effective_rank: directions in use, 1 … min(n, D): exp of the entropy of the singular values' shares
            (RankMe: Garrido et al., ICML 2023), of features of unit length whose mean is taken away.
        std: mean over the D numbers of their standard deviation, of features of unit length.
        std_share: ``std`` over 1/√D, what features have that point everywhere alike; 0 … 1.
        cosine: mean cosine similarity of two different images, −1 … 1.
    """

    n: int
    dim: int
    effective_rank: float
    std: float
    std_share: float
    cosine: float

    def as_dict(self) -> dict[str, float]:
        """Return all of it as plain numbers."""
        return asdict(self)


def spread(features: Floats) -> Spread:
    """Measure how much of their space features use.

    RankMe is defined on features as they are. Here their mean is taken away first: a student's class tokens
    share a large mean, which would be one large singular value and hide how the images differ.

    Args:
        features: (n, D), finite, n of at least 2.

    Raises:
        DataError: fewer than two images, or features that are not finite.

    Example:
        >>> spread(np.eye(3)).cosine
        0.0
    """
    if features.ndim != 2 or len(features) < 2:
        raise DataError("a spread must be of (n, D) features, two images or more.", f"found {features.shape}")
    if not np.isfinite(features).all():
        raise DataError(
            "features must be finite.", f"{int((~np.isfinite(features)).any(axis=1).sum())} images' are not"
        )
    n, dim = features.shape
    X = np.asarray(features, dtype=np.float64)
    length = np.linalg.norm(X, axis=1, keepdims=True)
    X = X / np.where(length > 0, length, 1)
    total = X.sum(axis=0)
    cosine = float((total @ total - (X * X).sum()) / (n * (n - 1)))
    centred = X - X.mean(axis=0)
    std = float(centred.std(axis=0).mean())
    # From the smaller Gram matrix: as many singular values, at a fraction of the time.
    gram = centred.T @ centred if dim <= n else centred @ centred.T
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    noise = np.sqrt(np.finfo(np.float64).eps) * np.sqrt(n)
    values = values[values > noise]
    shares = values / values.sum() if len(values) else np.ones(1)
    rank = float(np.exp(-(shares * np.log(shares)).sum()))
    return Spread(n, dim, rank, std, std * dim**0.5, cosine)


def alarms(
    now: Spread | None,
    before: Sequence[Spread] = (),
    *,
    steps: Sequence[Mapping[str, Any]] = (),
    first_steps: Sequence[Mapping[str, Any]] = (),
    best_loss: float | None = None,
    predicted: Mapping[str, float] | None = None,
    masked_patches: int | None = None,
) -> list[str]:
    """Return what looks wrong, one sentence each; none where nothing does.

    Args:
        now: of the features of this epoch, of the online probe's images or any fixed ones.
        before: of earlier epochs, in their order. The features of weights drawn at random all point one way,
            so the first measurement alone is no
            collapse, and while features come apart nothing is wrong.
        steps: the journal's lines of this epoch: ``loss`` and ``norm``, of the gradient.
        first_steps: those of the run's beginning.
        best_loss: the least mean loss of an epoch so far.
        predicted: of :func:`panderm.pretraining.picture.draw_picture`: how near the teacher predictions are.
        masked_patches: of each image; 0 where nothing is masked.
    """
    found = [] if now is None else _collapse(now, before)
    found += _losses(steps, first_steps, best_loss)
    if masked_patches == 0:
        found.append("No patch is masked: the regressor and its mask token are never used.")
    if predicted and len(before) >= SETTLED:
        found += _predictions(predicted)
    return found


def _collapse(now: Spread, before: Sequence[Spread]) -> list[str]:
    found = []
    most = min(now.n - 1, now.dim)
    # Weights drawn at random point all one way at first, and come apart: while they do, nothing is wrong.
    if before and now.cosine > POINT_ONE_WAY and now.cosine > before[-1].cosine - (1 - POINT_ONE_WAY) / 5:
        found.append(
            f"The features of all images point one way: their mean pairwise cosine is {now.cosine:.3f}, and "
            f"a number varies by {now.std_share:.0%} of what it could. The student may have collapsed."
        )
    if before and now.effective_rank < min(FEWEST_DIRECTIONS, most / 2):
        found.append(
            f"The features of {now.n:,} images lie in about {now.effective_rank:.1f} of {most:,} directions "
            "(effective rank). Most of the student's width is unused."
        )
    best = max((one.effective_rank for one in before), default=0.0)
    if now.effective_rank < FELL * best:
        found.append(
            f"The effective rank fell to {now.effective_rank:.1f}, from {best:.1f} at its best: features "
            "that were apart are being put together."
        )
    return found


def _losses(
    steps: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]], best: float | None
) -> list[str]:
    found = []
    losses, began = _of("loss", steps), _of("loss", first)
    if len(losses) and not np.isfinite(losses).all():
        found.append(f"The loss is not a finite number in {int((~np.isfinite(losses)).sum()):,} steps.")
    losses, began = losses[np.isfinite(losses)], began[np.isfinite(began)]
    if min(len(losses), len(began)) >= ENOUGH_STEPS:
        error = np.sqrt(losses.var(ddof=1) / len(losses) + began.var(ddof=1) / len(began))
        if losses.mean() > began.mean() - 2 * error:
            found.append(
                f"The loss has not moved: {losses.mean():.4f} now, {began.mean():.4f} at the beginning (mean "
                f"of {len(losses):,} and of {len(began):,} steps). Is the rate too low, or all frozen?"
            )
    if best is not None and len(losses) >= ENOUGH_STEPS and len(began):
        fell = float(began.mean()) - best
        if fell > 0 and losses.mean() - best > ROSE * fell:
            found.append(
                f"The loss rose to {losses.mean():.4f}, from {best:.4f} at its best: more than half of what "
                "was learned is lost. A lower rate or a longer warm-up may help."
            )
    gradients = _of("norm", steps)
    if len(gradients) and np.isfinite(gradients).all() and gradients.max() == 0:
        found.append("All gradients are 0: nothing is being learned.")
    return found


def _predictions(predicted: Mapping[str, float]) -> list[str]:
    found = []
    masked, mean = predicted.get("masked"), predicted.get("mean token")
    if masked is not None and mean is not None and masked < mean:
        found.append(
            f"Masked tokens are predicted no better than by one and the same token: cosine {masked:.3f} to "
            f"the teacher's, their mean has {mean:.3f}. The regressor has learned nothing of the image."
        )
    alike, theirs = predicted.get("masked alike"), predicted.get("teacher alike")
    if alike is not None and theirs is not None and alike > POINT_ONE_WAY > theirs:
        found.append(
            f"What is predicted for masked patches is the same everywhere: mean cosine {alike:.3f} between "
            f"patches, the teacher's have {theirs:.3f}. Where a patch lies does not matter to the regressor."
        )
    return found


def _of(name: str, steps: Sequence[Mapping[str, Any]]) -> Floats:
    return np.array([float(s[name]) for s in steps if s.get(name) is not None], dtype=np.float64)
