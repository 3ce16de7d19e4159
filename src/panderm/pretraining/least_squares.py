"""Linear maps fitted to sums of squares, in closed form: near a first guess, sparse, or of low rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_STEPS = 40  # of an elimination: more inputs than this and several leave at once
_SWEEPS = 8
_TINY = 1e-12


@dataclass
class Sums:
    """What a least-squares fit has to know of its rows: products of inputs (the last is 1) and outputs.

    Sums are float64; rows kept aside have sums of their own, on which the strength of the ridge is chosen.
    """

    fit: list[torch.Tensor] = field(default_factory=list)
    aside: list[torch.Tensor] = field(default_factory=list)

    def add(self, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, *, aside: bool = False) -> None:
        """Count rows: inputs (…, p), outputs (…, q) and weights (…)."""
        x = x.reshape(-1, x.shape[-1])
        y, w = y.reshape(-1, y.shape[-1]), weights.reshape(-1, 1)
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        weighted = x * w
        found = [(weighted.T @ x).double(), (weighted.T @ y).double(), (w * y.square()).sum(0).double()]
        into = self.aside if aside else self.fit
        into[:] = [a + b for a, b in zip(into, found, strict=True)] if into else found

    def ridge(
        self,
        guess: torch.Tensor,
        kept: torch.Tensor | None = None,
        *,
        strengths: Sequence[float] = STRENGTHS,
    ) -> Ridge:
        """Return the problem of a ridge towards a guess, its strength chosen on the rows kept aside.

        Minimises Σ w |x B - y|² + λ Σ_p n var(x_p) |B_p - guess_p|²; the intercept is free.

        Args:
            guess: (p + 1, q), the intercept last.
            kept: the inputs to be used, as indices without the intercept; ``guess`` is of these.
            strengths: λ to choose from.
        """
        whole = [a + b for a, b in zip(self.fit, self.aside, strict=True)] if self.aside else self.fit
        fit, aside, both = (_only(each, kept) for each in (self.fit, self.aside or self.fit, whole))
        guess = guess.double()
        losses = []
        for strength in strengths:
            found = _pulled(fit, guess, strength).solution()
            losses.append(_loss(aside, found))
        best = min(range(len(strengths)), key=losses.__getitem__)
        return _pulled(both, guess, strengths[best], explained=_explained(aside, losses[best]))


@dataclass(frozen=True)
class Ridge:
    """The normal equations of a ridge: ``products`` B = ``cross``.

    Attributes:
        products: float64 (p + 1, p + 1).
        cross: float64 (p + 1, q).
        strength: λ.
        explained: share of the variance of the rows kept aside that the fit explains.
    """

    products: torch.Tensor
    cross: torch.Tensor
    strength: float
    explained: float = float("nan")

    def solution(self) -> torch.Tensor:
        """Return B, float64 (p + 1, q)."""
        scale = self.products.diagonal().clamp_min(_TINY).sqrt()
        scaled = self.products / scale[:, None] / scale
        root, failed = torch.linalg.cholesky_ex(scaled)
        right = self.cross / scale[:, None]
        made: torch.Tensor = (
            torch.linalg.solve(scaled, right) if failed else torch.cholesky_solve(right, root)
        )
        return made / scale[:, None]

    def low_rank(self, parts: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Fit inputs that come in ``parts`` of one width d, each through a map of at most ``rank``.

        Reduced-rank regression (Izenman A., J. Multivariate Analysis 1975) of one part at a time, given the
        others, until all have had their turn eight times.

        Returns:
            float64 (parts, d, rank), each with orthonormal columns, and (parts · rank + 1, q): from these,
            and the intercept, to the outputs.
        """
        gram, cross = self.products, self.cross
        width = (len(gram) - 1) // parts
        found = self.solution()
        halves = []
        for i in range(parts):
            at = slice(i * width, (i + 1) * width)
            values, vectors = torch.linalg.eigh(gram[at, at])
            root = values.clamp_min(float(values[-1]) * 1e-9).sqrt()
            halves.append((vectors / root).T)
        into = [half.T[:, :rank] for half in halves]
        for _ in range(_SWEEPS):
            for i, inverse in enumerate(halves):
                at = slice(i * width, (i + 1) * width)
                left = cross[at] - gram[at] @ found + gram[at, at] @ found[at]
                left_vectors, values, right = torch.linalg.svd(inverse @ left, full_matrices=False)
                into[i] = inverse.T @ left_vectors[:, :rank]
                found[at] = into[i] @ (values[:rank, None] * right[:rank])
            found[-1] = (cross[-1] - gram[-1, :-1] @ found[:-1]) / gram[-1, -1]
        first = torch.stack([torch.linalg.qr(each)[0] for each in into])
        narrow = torch.block_diag(*first, torch.ones(1, 1, dtype=torch.float64))  # type: ignore[no-untyped-call]
        second = Ridge(narrow.T @ gram @ narrow, narrow.T @ cross, self.strength).solution()
        return first, second


def fewest(problem: Ridge, keep: int) -> torch.Tensor:
    """Choose inputs by backward elimination: those whose loss costs the fit least leave first.

    The cost of an input is |B_p|² / (G⁻¹)_pp (Hassibi B., Stork D., Optimal brain surgeon, NIPS 1992); after
    each step all others are fitted anew. The intercept stays.

    Returns:
        int64 (keep,), rising.
    """
    scale = problem.products.diagonal().clamp_min(_TINY).sqrt()
    inverse = torch.linalg.inv(problem.products / scale[:, None] / scale)
    found = inverse @ (problem.cross / scale[:, None])
    left = torch.arange(len(found) - 1)
    each = max(1, -(-(len(left) - keep) // _STEPS))
    while len(left) > keep:
        cost = found[left].square().sum(1) / inverse.diagonal()[left].clamp_min(_TINY)
        gone = left[cost.argsort(stable=True)[: min(each, len(left) - keep)]]
        left = left[~torch.isin(left, gone)]
        core = inverse[gone][:, gone]
        found = found - inverse[:, gone] @ torch.linalg.solve(core, found[gone])
        inverse = inverse - inverse[:, gone] @ torch.linalg.solve(core, inverse[gone])
    return left


def _only(sums: list[torch.Tensor], kept: torch.Tensor | None) -> list[torch.Tensor]:
    if kept is None:
        return sums
    at = torch.cat([kept, torch.tensor([len(sums[0]) - 1])])
    return [sums[0][at][:, at], sums[1][at], sums[2]]


def _pulled(
    sums: list[torch.Tensor], guess: torch.Tensor, strength: float, explained: float = float("nan")
) -> Ridge:
    """Add the pull towards the guess to the normal equations."""
    gram, cross, _ = sums
    rows = gram[-1, -1]
    spread = (gram.diagonal() - gram[-1].square() / rows).clamp_min(_TINY) * strength
    spread = spread + _TINY * gram.diagonal()
    spread[-1] = 0
    return Ridge(gram + spread.diag(), cross + spread[:, None] * guess, strength, explained)


def _loss(sums: list[torch.Tensor], found: torch.Tensor) -> float:
    gram, cross, squares = sums
    return float(squares.sum() - 2 * (found * cross).sum() + (found * (gram @ found)).sum())


def _explained(sums: list[torch.Tensor], loss: float) -> float:
    gram, cross, squares = sums
    return 1 - loss / float((squares - cross[-1].square() / gram[-1, -1]).sum())
