"""A fitted k-nearest-neighbour probe: the training vectors, and how they vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from panderm.fitted.probe import FittedProbe, Floats
from panderm.progress import Progress

_QUERIES, _ROWS = 1024, 16_384  # compared in one block: 64 MiB of similarities


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedNeighbours(FittedProbe):
    """The logarithm of each class's share of the votes of the k nearest training rows by cosine similarity.

    A neighbour i votes with w_i·exp(s_i/τ) (Caron et al., ICCV 2021, appendix), or w_i where τ is infinite.
    One vote more, as heavy as that of a nearest neighbour of weight 1, is shared by the trained classes
    alike: no trained class gets the probability 0, the surer the more neighbours speak, and the class with
    the most votes stays the first.

    Attributes:
        vectors: float32 (n, D), the training vectors, of length 1 each.
        codes: int32 (n,), their classes as positions in ``classes``.
        votes: float64 (n,), their weights w, greater than 0.
        k: neighbours that vote.
        tau: τ, greater than 0; infinite: all neighbours alike.
        device: where it is computed; no part of what is stored.
        progress: show a bar; no part of what is stored.
    """

    kind: ClassVar[str] = "knn"

    vectors: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int32]
    votes: Floats
    k: int
    tau: float
    device: str = "cpu"
    progress: bool = False

    @property
    def dim(self) -> int:
        """Width D of the embeddings it takes."""
        return int(self.vectors.shape[1])

    @property
    def trained(self) -> npt.NDArray[np.bool_]:
        """Say of each class whether it was trained, bool (K,)."""
        return np.bincount(self.codes, minlength=len(self.classes)) > 0

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the training vectors, their classes and weights."""
        return {"vectors": self.vectors, "codes": self.codes, "votes": self.votes}

    def settings(self) -> dict[str, Any]:
        """Return k and τ, None for infinity."""
        return {"k": self.k, "tau": self.tau if np.isfinite(self.tau) else None}

    @classmethod
    def restored(cls, tensors: dict[str, npt.NDArray[Any]], settings: dict[str, Any], **common: Any) -> Self:
        """Return the probe of a file; see :class:`FittedProbe`."""
        vectors, codes, votes = (tensors[name] for name in ("vectors", "codes", "votes"))
        k, tau = settings["k"], np.inf if settings["tau"] is None else float(settings["tau"])
        n, K = len(vectors), len(common["classes"])
        types = [one.dtype.name for one in (vectors, codes, votes)]
        sound = types == ["float32", "int32", "float64"] and vectors.ndim == 2
        sound = sound and codes.shape == votes.shape == (n,) and type(k) is int and 1 <= k <= n and tau > 0
        sound = sound and bool(((codes >= 0) & (codes < K)).all() and (votes > 0).all())
        if not (sound and np.isfinite(vectors).all() and np.isfinite(votes).all()):
            raise ValueError("no training vectors of these classes")
        return cls(vectors=vectors, codes=codes, votes=votes, k=k, tau=tau, **common)

    def _logits(self, X: npt.NDArray[Any]) -> Floats:
        found = nearest(unit_length(X), self.vectors, self.k, device=self.device, progress=self.progress)
        shares = vote(*found, self.codes, self.votes, self.trained, tau=self.tau, ks=(self.k,))[0]
        with np.errstate(divide="ignore"):  # a class never trained: minus infinity
            return np.asarray(np.log(shares))


def unit_length(X: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return rows (n, D) divided by their length, float32; one that is all 0 stays so."""
    rows = np.asarray(X, dtype=np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(np.float32)


def nearest(
    queries: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float32],
    k: int,
    *,
    apart: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the k rows of greatest inner product, nearest first, by an exact search in blocks.

    Args:
        queries: (m, D).
        vectors: (n, D), n >= k.
        k: how many.
        apart: groups of the queries (m,) and of the rows (n,): a row is no neighbour of its own group.
        device: where products are made.
        progress: show a bar.

    Returns:
        Inner products (m, k), minus infinity where other groups have fewer than k rows; positions (m, k).
    """
    import torch

    products = np.empty((len(queries), k), dtype=np.float32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    rows = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
    own, theirs = (None, None) if apart is None else (torch.from_numpy(g).to(device) for g in apart)
    with torch.inference_mode(), Progress(len(queries), "neighbours", "image", shown=progress) as bar:
        for q in range(0, len(queries), _QUERIES):
            asked = torch.from_numpy(queries[q : q + _QUERIES]).to(device)
            best = torch.empty((len(asked), 0), device=device)
            where = torch.empty((len(asked), 0), dtype=torch.int64, device=device)
            for start in range(0, len(rows), _ROWS):
                found = asked @ rows[start : start + _ROWS].T
                if own is not None and theirs is not None:
                    same = own[q : q + _QUERIES, None] == theirs[None, start : start + _ROWS]
                    found.masked_fill_(same, -torch.inf)
                found, here = found.topk(min(k, found.shape[1]), dim=1, sorted=False)
                best, where = torch.cat([best, found], 1), torch.cat([where, here + start], 1)
                best, kept = best.topk(min(k, best.shape[1]), dim=1)
                where = where.gather(1, kept)
            products[q : q + len(asked)] = best.cpu().numpy()
            positions[q : q + len(asked)] = where.cpu().numpy()
            bar.advance(len(asked))
    return products, positions


def vote(
    products: npt.NDArray[np.float32],
    positions: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int32],
    weights: Floats,
    trained: npt.NDArray[np.bool_],
    *,
    tau: float,
    ks: tuple[int, ...],
) -> Floats:
    """Return each class's share of the votes of the k nearest rows, for several k at once.

    Args:
        products: (m, most), nearest first, as :func:`nearest` returns them.
        positions: (m, most), as it returns them.
        codes: (n,) classes of the rows.
        weights: (n,) of the rows.
        trained: bool (K,).
        tau: of the votes' weights; infinite: alike.
        ks: ascending, none beyond ``most``.

    Returns:
        (len(ks), m, K), each row sums to 1; 0 for a class never trained.
    """
    products, near = products[:, : ks[-1]].astype(np.float64), positions[:, : ks[-1]]
    there = np.isfinite(products)
    # The nearest has the vote 1 whatever τ: the largest of them is then 1 and none overflows.
    relative = np.where(there, products, 0) - np.where(there[:, :1], products[:, :1], 0)
    votes = weights[near] * np.where(there, np.exp(relative / tau), 0)
    of = codes[near]
    starts = [0, *ks[:-1]]
    shares = np.zeros((len(ks), len(products), len(trained)))
    for c in np.flatnonzero(trained):
        shares[:, :, c] = np.add.reduceat(votes * (of == c), starts, axis=1).cumsum(axis=1).T
    shares[:, :, trained] += 1 / trained.sum()
    shares /= shares.sum(axis=2, keepdims=True)
    return shares
