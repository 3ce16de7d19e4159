"""The tuned probe's solver against scikit-learn's lbfgs on the same objective, side by side in one process.

    python benchmarks/probe.py [--embeddings X.emb] [--rows 8000] [--dim 384] [--classes 7] [--seed 0]

Without embeddings, features are drawn with a power-law spectrum, as embeddings have. For each strength:
seconds of both, their ratio, and how far above the best value seen each ends.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from panderm import open_embeddings
from panderm.training.logistic import RidgePath

STRENGTHS = (1e-3, 1e-2, 1e-1)


def drawn(rows: int, dim: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(rows, dim)) * np.arange(1, dim + 1) ** -0.5) @ np.linalg.qr(
        rng.normal(size=(dim, dim))
    )[0]
    logits = X @ rng.normal(size=(dim, classes)) * 1.5 - np.arange(classes) * 0.7
    return X.astype(np.float32), (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def objective(X: np.ndarray, y: np.ndarray, W: np.ndarray, b: np.ndarray, C: float) -> float:
    log_p = log_softmax(X @ W.T + b, axis=1)[np.arange(len(y)), y]
    return float(-log_p.mean() + (W**2).sum() / (2 * C * len(y)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embeddings")
    for name, value in (("rows", 8000), ("dim", 384), ("classes", 7), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if args.embeddings:
        emb = open_embeddings(args.embeddings)
        train = emb.rows.in_split("train")
        X, y = emb.vectors[emb.rows.split == "train"], np.unique(train.codes(), return_inverse=True)[1]
    else:
        X, y = drawn(args.rows, args.dim, args.classes, args.seed)
    K = int(y.max()) + 1
    centred = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    scaled = centred / np.sqrt((centred**2).mean())
    print(f"{len(y):,} rows × {X.shape[1]} features, {K} classes; one BLAS thread; squared L2")
    print(f"{'C':>8} {'ours s':>8} {'sklearn s':>10} {'ratio':>6} {'our gap':>9} {'their gap':>9}")
    with threadpool_limits(1):
        for C in STRENGTHS:
            started = time.perf_counter()
            ours = RidgePath(X, y, K, max_iter=5000).fit(C)
            between = time.perf_counter()
            theirs = LogisticRegression(C=C, tol=1e-6, max_iter=5000).fit(scaled, y)
            ended = time.perf_counter()
            own = objective(X.astype(np.float64), y, ours.weight, ours.bias, C)
            scale = np.sqrt((centred**2).mean())  # our weights are for features as they came
            own += ((scale**2 - 1) * (ours.weight**2).sum()) / (2 * C * len(y))
            other = objective(scaled, y, theirs.coef_, theirs.intercept_, C)
            best = min(own, other)
            a, b = between - started, ended - between
            print(f"{C:8.0e} {a:8.2f} {b:10.2f} {b / a:6.1f} {own - best:9.1e} {other - best:9.1e}")


if __name__ == "__main__":
    main()
