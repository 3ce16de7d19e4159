"""What a classifier is taught: targets, class weights, the loss, and how weights are taken back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from panderm.data.label_cells import UNKNOWN
from panderm.errors import UsageError
from panderm.fitted.probe import Link
from panderm.training.long.learner import Loss

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of logits against targets, which may be soft.

    ``softmax``: an image is of one class (of two, where the question is binary); cross-entropy
    −Σ_k w_k·y_k·log p_k, the mean over images. ``sigmoid``: each label holds or does not; binary
    cross-entropy, the mean over labels that are known. Label smoothing (Szegedy et al., CVPR 2016) takes ε
    of the truth and spreads it evenly: over the K classes, or over present and absent.

    Attributes:
        classes: K.
        link: of the classifier's head.
        smoothing: ε, 0 to less than 1.
        weights: None: all count alike. Of softmax float64 (K,), a class each; of sigmoid float64 (K, 2), a
            label's absence and presence. See :func:`balanced_weights`.

    Raises:
        UsageError: one class for softmax, a smoothing out of its range, weights of another shape.

    Example:
        >>> objective = Objective(3, smoothing=0.1)
        >>> targets = objective.targets(np.array([2, 0]))
        >>> loss = objective(torch.zeros(2, 3), targets)
        >>> float(loss.mean), loss.weight  # doctest: +ELLIPSIS
        (1.0986..., 2.0)
    """

    classes: int
    link: Link = "softmax"
    smoothing: float = 0.1
    weights: Floats | None = None

    def __post_init__(self) -> None:
        if self.classes < (2 if self.link == "softmax" else 1):
            raise UsageError("a classifier must have at least two classes.", f"found {self.classes}")
        if not 0 <= self.smoothing < 1:
            raise UsageError(
                "label smoothing must be 0 to less than 1.", f"found {self.smoothing}", "0.1 is common"
            )
        shape = (self.classes,) if self.link == "softmax" else (self.classes, 2)
        if self.weights is not None and not (
            self.weights.shape == shape and np.isfinite(self.weights).all() and (self.weights > 0).all()
        ):
            raise UsageError(
                f"class weights must be {' × '.join(map(str, shape))} numbers above 0.",
                f"found {self.weights.tolist()}",
            )

    def targets(self, truth: Truth) -> torch.Tensor:
        """Return targets, float32 (n, K), on the CPU, neither smoothed nor mixed.

        Args:
            truth: of softmax integers (n,), positions in the classes; of sigmoid integers (n, K), 1 present,
                0 absent, −1 not known, which becomes NaN.
        """
        if self.link == "softmax":
            codes = torch.from_numpy(np.asarray(truth, dtype=np.int64))
            return functional.one_hot(codes, self.classes).float()
        cells = torch.from_numpy(np.asarray(truth, dtype=np.float32))
        return cells.masked_fill(cells == UNKNOWN, torch.nan)

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> Loss:
        """Return the loss of a batch.

        Args:
            logits: float (n, K); computed in float32.
            targets: float (n, K), on the same device, perhaps mixed; NaN where a label is not known.

        Returns:
            The mean, and over how much it is: images, or known labels by K. Where nothing is known, 0 of 0.
        """
        logits, targets = logits.float(), targets.float()
        weights = None
        if self.weights is not None:
            weights = torch.as_tensor(self.weights, dtype=torch.float32, device=logits.device)
        if self.link == "softmax":
            smooth = targets * (1 - self.smoothing) + self.smoothing / self.classes
            smooth = smooth if weights is None else smooth * weights
            total = -(smooth * functional.log_softmax(logits, dim=1)).sum()
            return Loss(total / max(len(logits), 1), float(len(logits)))
        known = ~targets.isnan()
        smooth = torch.where(known, targets, 0.5) * (1 - self.smoothing) + self.smoothing / 2
        absent, present = (1.0, 1.0) if weights is None else weights.unbind(dim=1)
        each = present * smooth * functional.logsigmoid(logits)
        each = each + absent * (1 - smooth) * functional.logsigmoid(-logits)
        count = known.sum()
        return Loss(-(each * known).sum() / count.clamp(min=1), float(count) / self.classes)


def balanced_weights(truth: Truth, classes: int, link: Link = "softmax") -> Floats:
    """Return weights under which each class counts as much as any other, in a loss or in a sampler.

    n / (K·n_c), as scikit-learn and the published sampler have it, K the classes present; a class without an
    image has the weight 1. Of several labels each is a question of its own: n / (2·n_absent) and
    n / (2·n_present) of the n images of which it is known.

    Args:
        truth: as :meth:`Objective.targets` takes it.
        classes: K.
        link: of the classifier's head.

    Returns:
        float64 (K,), or (K, 2) of sigmoid: absent, present. A sampler draws rows by ``weights[codes]``.

    Example:
        >>> balanced_weights(np.array([0, 0, 0, 1]), 2).round(2).tolist()
        [0.67, 2.0]
    """
    if link == "softmax":
        counts = np.bincount(np.asarray(truth, dtype=np.int64), minlength=classes).astype(np.float64)[:, None]
    else:
        counts = np.stack([(truth == 0).sum(axis=0), (truth == 1).sum(axis=0)]).astype(np.float64)
    present = (counts > 0).sum(axis=0)
    weights = np.ones_like(counts)
    np.divide(counts.sum(axis=0), present * counts, out=weights, where=counts > 0)
    return weights[:, 0] if link == "softmax" else np.ascontiguousarray(weights.T)


def log_prior_shift(weights: Floats) -> Floats:
    """Return what is added to a head's bias so that its probabilities are of the images as they were.

    A network that learned with the class weighted (or drawn more often) by w_k tends to p(k | x)·w_k, not to
    p(k | x): rare classes are foretold too often. Subtracting log w_k undoes it (Saerens et al., Neural
    Computation 2002; Menon et al., ICLR 2021). It is exact where the loss is a cross-entropy of hard labels
    that was learned to its end; with smoothing or mixing it is an approximation, and calibration on held-out
    images belongs after it. It moves decisions towards the common classes, as it should: balanced accuracy
    may fall.

    Args:
        weights: float64 (K,) of softmax; (K, 2), absent and present, of sigmoid.

    Returns:
        float64 (K,), of mean 0 for softmax, where only differences count.

    Example:
        >>> log_prior_shift(np.array([0.5, 2.0])).round(3).tolist()
        [0.693, -0.693]
    """
    logs = np.log(np.asarray(weights, dtype=np.float64))
    if logs.ndim == 2:
        return np.asarray(logs[:, 0] - logs[:, 1])
    return np.asarray(logs.mean() - logs)
