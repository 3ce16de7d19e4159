"""Solvers of a linear probe's objective side by side in one process: seconds to the same value.

    python benchmarks/probe.py [--rows 10000] [--dim 1024] [--classes 7] [--rounds 3] [--no-newton]
    python benchmarks/probe.py --embeddings X.emb
    python benchmarks/probe.py --million

Minimised is scikit-learn's objective, the mean cross-entropy + ‖W‖²/(2·C·n) on centred features divided by
one number, at the published strength C·n = D·K/100, on data that lines nearly separate and on harder data.
Solvers take turns; each point they visit is kept with its time and valued afterwards, in double precision.
Printed: the median seconds until a solver is within 1e-6 and 1e-8 of the best value anyone found, the seconds
until it stops, what it is short of then, and the ratio of its seconds to ours. Ours are counted from the
features as they came; the others are given what they take ready-made.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from panderm import open_embeddings
from panderm.training.logistic import fit_paper
from panderm.training.passes import Passes
from panderm.training.whitened import WhitenedPath

Point = tuple[np.ndarray, np.ndarray]  # weight (K, D), bias (K,) on standardised features
Trace = list[tuple[float, Point]]


@dataclass
class Task:
    """Features as they came and standardised, classes, and the strength."""

    name: str
    X: np.ndarray
    y: np.ndarray
    C: float

    def __post_init__(self) -> None:
        self.K = int(self.y.max()) + 1
        self.mean = self.X.mean(axis=0, dtype=np.float64)
        centred = self.X - self.mean
        self.scale = float(np.sqrt((centred**2).mean()))
        self.Z = centred / self.scale

    def value(self, point: Point) -> float:
        W, b = point
        log_p = log_softmax(self.Z @ W.T + b, axis=1)[np.arange(len(self.y)), self.y]
        return float(-log_p.mean() + (W**2).sum() / (2 * self.C * len(self.y)))


def ours(task: Task, *, float64: bool) -> Trace:
    trace: Trace = []
    whole = Passes.loss

    def seen(self: Passes, theta: np.ndarray, *, double: bool) -> tuple[float, np.ndarray]:
        trace.append((time.perf_counter(), (theta[:, :-1].copy(), theta[:, -1].copy())))
        return whole(self, theta, double=double)

    Passes.loss = seen  # type: ignore[method-assign]
    try:
        WhitenedPath(task.X, task.y, task.K, float64=float64).fit(task.C)
    finally:
        Passes.loss = whole  # type: ignore[method-assign]
    return trace


def scikit_learn(task: Task, solver: str, tolerance: float) -> Trace:
    trace: Trace = []
    minimise = scipy.optimize.minimize

    def seen(fun: Callable[..., object], x0: np.ndarray, **options: object) -> object:
        def valued(x: np.ndarray, *args: object) -> object:
            W = x.reshape(task.K, -1, order="F")
            trace.append((time.perf_counter(), (W[:, :-1].copy(), W[:, -1].copy())))
            return fun(x, *args)

        return minimise(valued, x0, **options)

    scipy.optimize.minimize = seen
    try:
        model = LogisticRegression(C=task.C, solver=solver, tol=tolerance, max_iter=10_000).fit(
            task.Z, task.y
        )
    finally:
        scipy.optimize.minimize = minimise
    return [*trace, (time.perf_counter(), (model.coef_, model.intercept_))]


def published(task: Task) -> Trace:
    """Take the published probe's settings, its norm squared: raw features, single precision."""
    trace: Trace = []
    torch.manual_seed(0)
    linear = torch.nn.Linear(task.X.shape[1], task.K)
    X, y = torch.from_numpy(task.X), torch.from_numpy(task.y)
    penalty = task.scale**2 / (2 * task.C * len(task.y))
    lbfgs = torch.optim.LBFGS(
        linear.parameters(),
        max_iter=1000,
        history_size=100,
        tolerance_grad=1e-7,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        W, b = (p.detach().double().numpy() for p in (linear.weight, linear.bias))
        trace.append((time.perf_counter(), (W * task.scale, b + W @ task.mean)))
        lbfgs.zero_grad()
        loss = torch.nn.functional.cross_entropy(linear(X), y) + penalty * (linear.weight**2).sum()
        loss.backward()
        return loss

    lbfgs.step(closure)
    closure()
    return trace


def compare(task: Task, solvers: dict[str, Callable[[Task], Trace]], rounds: int) -> None:
    print(f"\n{task.name}: {len(task.y):,} × {task.X.shape[1]:,}, {task.K} classes, C {task.C:.2e}")
    runs: dict[str, list[tuple[float, float, Trace]]] = {name: [] for name in solvers}
    for turn in range(rounds):
        for name, solve in solvers.items():
            if turn and "newton" in name:
                continue  # a minute each time
            started = time.perf_counter()
            trace = solve(task)
            runs[name].append((started, time.perf_counter(), trace))
    best = min(task.value(trace[-1][1]) for turns in runs.values() for _, _, trace in turns)
    found = {}
    for name, turns in runs.items():
        six, eight = (
            float(np.median([until(task, t, s, best + e) for s, _, t in turns])) for e in (1e-6, 1e-8)
        )
        stop = float(np.median([end - start for start, end, _ in turns]))
        gap = max(task.value(trace[-1][1]) for _, _, trace in turns) - best
        found[name] = (six, eight, stop, gap, len(turns[0][2]))
    own = next(iter(found.values()))
    print(f"{'':34}{'to 1e-6':>9}{'to 1e-8':>9}{'to stop':>9}{'gap':>9}{'passes':>8}   ratios to ours")
    for name, (six, eight, stop, gap, passes) in found.items():
        ratios = " ".join(f"{a / b:6.1f}" for a, b in zip((six, eight, stop), own[:3], strict=True))
        print(f"{name:34}{six:9.2f}{eight:9.2f}{stop:9.2f}{gap:9.0e}{passes:8d}   {ratios}")


def until(task: Task, trace: Trace, started: float, value: float) -> float:
    """Return the seconds until a solver stood at a value or below; infinite where it never did."""
    if task.value(trace[-1][1]) > value:
        return float("inf")
    low, high = 0, len(trace) - 1  # values fall but for a line search's overshoot
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if task.value(trace[middle][1]) <= value else (middle + 1, high)
    return trace[low][0] - started


def own_objective(task: Task) -> None:
    """Print what the published solver is short of on its own objective, ½‖W‖/C, the norm not squared.

    Its optimum is that of the squared penalty whose pull is the same, s²/(C₂·n) = 1/(2·C·‖W‖), s the scale.
    """
    n, C = len(task.y), task.X.shape[1] * task.K / 100
    started = time.perf_counter()
    fit = fit_paper(task.X, task.y, C, seed=0, max_iter=1000)
    seconds = time.perf_counter() - started

    def value(W: np.ndarray, b: np.ndarray) -> float:
        log_p = log_softmax(task.X @ W.T + b, axis=1)[np.arange(n), task.y]
        return float(-log_p.mean() + np.linalg.norm(W) / (2 * C))

    path = WhitenedPath(task.X, task.y, task.K, float64=True)
    norm, best = float(np.linalg.norm(fit.weight)), np.inf
    for _ in range(30):
        exact = path.fit(2 * C * norm * task.scale**2 / n)
        best = min(best, value(exact.weight, exact.bias))
        norm, before = float(np.linalg.norm(exact.weight)), norm
        if abs(norm / before - 1) < 1e-7:
            break
    gap = value(fit.weight, fit.bias) - best
    print(f"published solver on its own objective: {seconds:.2f} s, {fit.evaluations} passes, gap {gap:.0e}")


def million(rows: int, dim: int, classes: int, seed: int) -> None:
    """Fit 10⁶ rows: on a GPU where there is one, else on the CPU, where it takes minutes."""
    gpu = torch.cuda.is_available()
    held = 4 * rows * dim / 1e9
    print(
        f"{rows:,} × {dim:,} on the {'GPU' if gpu else 'CPU'}: {held:.1f} GB of features, as many in the fit"
    )
    rng = np.random.default_rng(seed)
    X, y = np.empty((rows, dim), dtype=np.float32), np.empty(rows, dtype=np.int64)
    spread = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    direction = rng.normal(size=(dim, classes)).astype(np.float32)
    for start in range(0, rows, 65_536):
        block = X[start : start + 65_536]
        block[:] = rng.standard_normal(block.shape, dtype=np.float32) * spread
        y[start : start + 65_536] = (block @ direction + rng.gumbel(size=(len(block), classes))).argmax(
            axis=1
        )
    started = time.perf_counter()
    path = WhitenedPath(X, y, classes)
    ready = time.perf_counter()
    fit = path.fit(dim * classes / 100 / rows)
    ended = time.perf_counter()
    print(
        f"{path.device}: {ready - started:.1f} s to prepare, {ended - ready:.1f} s to fit, {fit.evaluations} "
        f"passes; {fit.precision}; converged {fit.converged}, gradient norm {fit.gradient_norm:.0e}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process {peak:.1f} GiB", end="")
    print(f", of the GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if gpu else "")


def drawn(rows: int, dim: int, classes: int, seed: int, sure: float) -> tuple[np.ndarray, np.ndarray]:
    """Features with a power-law spectrum and a mean, as embeddings have, and classes of unequal shares."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, dim)) * np.arange(1, dim + 1) ** -0.5
    X = X @ np.linalg.qr(rng.normal(size=(dim, dim)))[0] + rng.normal(size=dim) * 0.5
    logits = (X - X.mean(axis=0)) @ rng.normal(size=(dim, classes)) * sure - np.arange(classes) * 0.7
    return X.astype(np.float32), (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--embeddings", help="train rows of embeddings, instead of drawn ones")
    for name, value in (("rows", 10_000), ("dim", 1024), ("classes", 7), ("seed", 0), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--no-newton", action="store_true", help="leave newton-cholesky out")
    parser.add_argument("--million", action="store_true", help="fit a million rows instead (or --rows)")
    args = parser.parse_args()
    if args.million:
        rows = args.rows if args.rows != parser.get_default("rows") else 1_000_000
        million(rows, args.dim, args.classes, args.seed)
        return
    solvers: dict[str, Callable[[Task], Trace]] = {
        "ours": lambda task: ours(task, float64=False),
        "ours, float64": lambda task: ours(task, float64=True),
        "published settings, squared": published,
        "scikit-learn lbfgs, tol 1e-4": lambda task: scikit_learn(task, "lbfgs", 1e-4),
        "scikit-learn lbfgs, tol 1e-7": lambda task: scikit_learn(task, "lbfgs", 1e-7),
    }
    if not args.no_newton:
        solvers["scikit-learn newton-cholesky, once"] = lambda task: scikit_learn(
            task, "newton-cholesky", 1e-4
        )
    if args.embeddings:
        emb = open_embeddings(args.embeddings)
        X, train = np.asarray(emb.vectors[emb.rows.split == "train"]), emb.rows.in_split("train")
        data = {args.embeddings: (X, np.unique(train.codes(), return_inverse=True)[1])}
    else:
        size = (args.rows, args.dim, args.classes, args.seed)
        data = {"nearly separable": drawn(*size, 6.0), "harder": drawn(*size, 1.5)}
    print(f"{torch.get_num_threads()} threads, {args.rounds} rounds")
    warm = Task("warm", *drawn(100, 4, args.classes, 0, 1.0), 0.1)
    for solve in solvers.values():
        solve(warm)  # what is imported at a first call
    for name, (X, y) in data.items():
        task = Task(name, X, y, X.shape[1] * (int(y.max()) + 1) / 100 / len(y))
        compare(task, solvers, args.rounds)
        own_objective(task)


if __name__ == "__main__":
    main()
