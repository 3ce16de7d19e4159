"""How many neighbours vote, and how much more the nearest ones: chosen on rows of other patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError, plural
from panderm.fitted.neighbours import FittedNeighbours, nearest, unit_length, vote
from panderm.models.device import pick_device
from panderm.training.features import Features, require_finite
from panderm.training.held_out import require_trained, require_two_classes
from panderm.training.row_weights import row_weights
from panderm.training.settings import ProbeSettings

KS = (1, 3, 5, 10, 20, 50, 100, 200)
TAUS = (np.inf, 0.5, 0.2, 0.1, 0.07, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""What divides cosine similarities: 0.07 in DINO's protocol (Caron et al., ICCV 2021)."""
DEFAULT_K, DEFAULT_TAU = 20, 0.07  # DINO's own, where no row can choose
_MOST = 20_000  # rows asked: more of them choose no better, and each is compared with all


def fit_neighbours(
    settings: ProbeSettings,
    train: Features,
    val: Features | None,
    *,
    method: dict[str, Any],
    progress: bool = False,
) -> tuple[FittedNeighbours, dict[str, Any]]:
    """Keep the training rows, and choose k and τ by the log loss of rows that do not vote for themselves.

    These are the val rows; without them every training row, of which the rows of other patients (or
    lesions) are asked: leave-one-group-out, exactly. Of more than 20,000 rows a random 20,000 choose.
    Votes are weighed by the rows' weights and, where classes are balanced, by n / (K·n_c).

    Returns:
        The probe, and what was chosen on what.

    Raises:
        DataError: see :func:`panderm.training.fit.fit_probe`. UsageError: k of more than the training rows.
    """
    n = len(train)
    require_two_classes(train)
    require_finite(train.X, train.images)
    if settings.k is not None and not 1 <= settings.k <= n:
        raise UsageError(f"--k must be from 1 to the number of training rows, {n:,}.", f"found {settings.k}")
    device = str(pick_device(settings.device))
    vectors, codes = unit_length(train.X), train.codes(train.classes).astype(np.int32)
    weights = row_weights(train, settings.class_weight)
    trained = np.bincount(codes, minlength=len(train.classes)) > 0
    ks = tuple(k for k in KS if k <= n) if settings.k is None else (settings.k,)
    asked, apart, how = _asked(train, val, settings.seed)
    k, tau, loss = ks[-1] if settings.k else min(DEFAULT_K, n), DEFAULT_TAU, None
    if asked is not None:
        require_finite(asked.X, asked.images)
        near = nearest(unit_length(asked.X), vectors, ks[-1], apart=apart, device=device, progress=progress)
        truth, each = asked.codes(train.classes), row_weights(asked, settings.class_weight)
        losses = np.array(
            [_losses(vote(*near, codes, weights, trained, tau=tau, ks=ks), truth, each) for tau in TAUS]
        )
        best = np.unravel_index(losses.argmin(), losses.shape)
        tau, k, loss = TAUS[best[0]], ks[best[1]], float(losses.min())
    probe = FittedNeighbours(
        classes=train.classes,
        method=method,
        vectors=vectors,
        codes=codes,
        votes=weights,
        k=k,
        tau=tau,
        device=device,
        progress=progress,
    )
    chosen = "τ" if settings.k else "k and τ"
    told = {"k": k, "tau": tau if np.isfinite(tau) else "none: neighbours vote alike", "chosen on": how}
    return probe, {
        **told,
        "log loss": loss,
        "vectors kept": n,
        "bytes kept": vectors.nbytes,
        "summary": f"{plural(k, 'neighbour')}, τ {tau:g} ({chosen} chosen on {how})",
    }


def _asked(
    train: Features, val: Features | None, seed: int
) -> tuple[Features | None, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None, str]:
    """Return the rows that choose, the groups that are kept apart, and words."""
    rng = np.random.default_rng(seed)
    if val is not None:
        require_trained(train, val)
        rows = _some(np.arange(len(val)), rng)
        return val.take(rows), None, f"log loss of {plural(len(rows), 'validation row')}"
    groups = (
        np.arange(len(train)) if train.groups is None else np.unique(train.groups, return_inverse=True)[1]
    )
    codes = train.codes()
    # Of a class that only one group has, no other group can know.
    several = [c for c in np.unique(codes) if len(np.unique(groups[codes == c])) > 1]
    rows = _some(np.flatnonzero(np.isin(codes, several)), rng)
    if len(several) < 2:
        return None, None, "a default: too few rows of some class to leave any out"
    whole = "" if train.groups is None else " with its group"
    how = f"log loss of {plural(len(rows), 'training row')}, each left out{whole}"
    return train.take(rows), (groups[rows], groups), how


def _some(rows: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return rows if len(rows) <= _MOST else np.sort(rng.choice(rows, _MOST, replace=False))


def _losses(
    shares: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the mean log loss of shares (k, m, K), one of each k."""
    of_truth = shares[:, np.arange(len(truth)), truth]
    return np.asarray(-(weights * np.log(of_truth)).sum(axis=1) / weights.sum())
