"""A narrow student from a wide vision transformer, layer by layer, by least squares on images: no gradient.

What flows through a pre-norm transformer is one stream that every branch reads and adds to. The student's
stream is to be a fixed linear picture of the wide one's: its largest principal components, turned so that the
fixed position table lies on the learned one. Then each branch of the student is fitted in turn, on what the
student's own stream has become by then, to bring it where the wide network's stream goes. An error that was
made is part of what the next branch sees, and what can be mended of it is. The last branch of a narrower
student turns its stream into a picture of the wide network's final tokens, so that distances between images
are the wide network's own.

The steps in closed form: a ridge towards the wide network's own weights, seen through the picture; heads and
hidden units by backward elimination; values and projection of a head together by reduced-rank regression
(:mod:`panderm.pretraining.least_squares`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from panderm.errors import UsageError, WeightsError, plural
from panderm.models.cards import PATCH
from panderm.models.network import position_table
from panderm.pretraining.least_squares import Ridge, Sums, fewest
from panderm.pretraining.plain_vit import PlainViT, normed
from panderm.pretraining.student import Student
from panderm.progress import Progress

State = dict[str, torch.Tensor]
FEWEST = 8
"""Images below which nothing can be fitted, and a tenth of them kept aside."""
_CHUNK = 32  # images in memory at once, with their attention
_CHOOSING = 128  # images on which components, heads and hidden units are chosen
_CLS = 20.0  # what a class token counts, against one patch: there is one for 196, and it is what is used
_ASIDE = 8  # every eighth image is kept aside, to choose a ridge's strength
_END = 6.0  # what the last stream counts among the others, when components are chosen
_LOUDER = 8.0  # how much larger the final picture is than the stream that it is added to
_CHOOSE = (0.1,)  # the ridge while heads and hidden units are chosen
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Narrowed:
    """A student's first weights.

    Attributes:
        state: ``encoder.*`` and ``decoder.*`` in the published names, float32.
        words: what was chosen, and how well the student follows, a sentence a block.
    """

    state: State
    words: tuple[str, ...]


def narrowed(
    wide: State, student: Student, images: npt.NDArray[np.uint8], *, shown: bool = False
) -> Narrowed:
    """Make a student's encoder, and its head, from a wider (or equally wide) plain vision transformer.

    Args:
        wide: the wide network's tensors in timm's names (DINOv2 among them), for pixels of ImageNet's mean
            and deviation.
        student: of the same depth.
        images: uint8 (n, S, S, 3) at the student's size, S a multiple of 16: crops as it will see in
            training. A few hundred follow the wide network; a few thousand follow it on other images too.
        shown: show a bar.

    Returns:
        Weights that depend on the arguments alone.

    Raises:
        UsageError: fewer than 8 images, or of another shape.
        WeightsError: another architecture or depth, or a network narrower than the student.
    """
    if images.ndim != 4 or len(images) < FEWEST or images.shape[1] % PATCH or images.shape[3] != 3:
        raise UsageError(
            f"narrowing needs at least {FEWEST} images, uint8 (n, S, S, 3), S a multiple of {PATCH}.",
            f"found {images.shape}",
        )
    side = images.shape[1] // PATCH
    network = PlainViT(wide, side)
    if network.depth != student.depth or network.dim < student.dim:
        raise WeightsError(
            f"{student.name} can only be made from a vision transformer of {plural(student.depth, 'block')} "
            f"that is not narrower than {student.dim}.",
            f"found {plural(network.depth, 'block')} of width {network.dim}",
        )
    with torch.no_grad():
        return _Narrowing(network, student, images, side).run(shown=shown)


class _Narrowing:
    """The streams of both networks on all images, moved forward branch by branch."""

    def __init__(self, wide: PlainViT, student: Student, images: npt.NDArray[np.uint8], side: int) -> None:
        self.wide, self.student, self.images, self.side = wide, student, images, side
        self.table = position_table(student.dim, side)[0]
        self.state: State = {}
        self.words: list[str] = []
        self.h = torch.cat([wide.embed(self._pixels(at, side * wide.patch)) for at in self._chunks()])
        turned, scale = self._picture()
        self.turned = turned.float()  # (d, D): its rows are orthonormal
        self.picture = (scale * turned).float()
        self.final: torch.Tensor | None = None  # (d, D): the picture of final tokens, at the end
        self.z = torch.empty(*self.h.shape[:2], student.dim)

    def run(self, *, shown: bool) -> Narrowed:
        self._embed()
        with Progress(self.student.depth, "narrowing", "blocks", shown=shown) as progress:
            for i in range(self.student.depth):
                told = f"block {i}: {self._attention(i)}; {self._mlp(i)}; {self._followed()}"
                self.words.append(told)
                progress.note(told)
                progress.advance()
        self._head()
        state = {key: value.float().contiguous() for key, value in self.state.items()}
        return Narrowed(state, tuple(self.words))

    def _chunks(self, most: int | None = None) -> Iterator[slice]:
        n = len(self.images) if most is None else min(most, len(self.images))
        for at in range(0, n, _CHUNK):
            yield slice(at, min(at + _CHUNK, n))

    def _parts(self) -> Iterator[tuple[slice, bool]]:
        """Yield images to fit on and, apart, every eighth, on which strengths are chosen."""
        for at in self._chunks():
            cut = at.stop - max(1, (at.stop - at.start) // _ASIDE)
            if cut > at.start:
                yield slice(at.start, cut), False
            yield slice(cut, at.stop), True

    def _pixels(self, at: slice, size: int) -> torch.Tensor:
        x = torch.from_numpy(np.array(self.images[at])).movedim(-1, 1).float()
        if size != x.shape[-1]:
            x = functional.interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(0, 255)
        mean, std = (torch.tensor(each)[:, None, None] for each in (_MEAN, _STD))
        return (x / 255 - mean) / std

    def _weights(self, at: slice) -> torch.Tensor:
        weights = torch.ones(at.stop - at.start, 1 + self.side**2)
        weights[:, 0] = _CLS
        return weights

    def _picture(self) -> tuple[torch.Tensor, float]:
        """Choose what of the wide stream the student keeps: float64 (d, D), rows orthonormal, and a scale.

        The components are those of all streams before each branch, normed as branches read them, and of the
        last. One dimension less than the student has: LayerNorm takes the mean away. The turn brings the
        learned positions nearest to the fixed ones (Procrustes), the scale makes them as large.
        """
        d, wide = self.student.dim, self.wide
        spread = torch.zeros(wide.dim, wide.dim, dtype=torch.float64)
        for at in self._chunks(_CHOOSING):
            h, weights = self.h[at], self._weights(at)
            for i in range(wide.depth):
                for moved in (wide.attention, wide.mlp):
                    spread += _spread(h, weights)
                    h = moved(i, h)[2]
            spread += _END * _spread(h, weights)
        values, vectors = torch.linalg.eigh(spread)
        main = vectors.flip(1)[:, : d - 1]  # all of mean 0: normed tokens are
        share = float(values.flip(0)[: d - 1].sum() / values.sum())
        fixed = self.table[1:].double()
        fixed = fixed - fixed.mean(1, keepdim=True)
        fixed = fixed - fixed.mean(0)
        learned = wide.positions[1:].double()
        learned = (learned - learned.mean(0)) @ main
        no_mean = torch.linalg.svd(torch.ones(1, d, dtype=torch.float64))[2][1:]  # (d - 1, d)
        u, _, v = torch.linalg.svd(no_mean @ fixed.T @ learned)
        turn = no_mean.T @ u @ v
        along = float((learned @ turn.T * fixed).sum())
        scale = float(fixed.square().sum()) / along if along > 0 else 1.0
        off = (scale * learned @ turn.T - fixed).square().sum() / (scale * learned).square().sum()
        self.words.append(
            f"{d - 1} of {wide.dim} components keep {share:.1%} of the variance of all streams; "
            f"the fixed position table holds {1 - float(off):.1%} of the learned one"
        )
        return turn @ main.T, scale

    def _goal(self, at: slice) -> torch.Tensor:
        if self.final is not None:
            return functional.linear(self._tokens(at), self.final)
        return functional.linear(self.h[at], self.picture)

    def _tokens(self, at: slice) -> torch.Tensor:
        """Return the wide network's final tokens, each of length √D."""
        made: torch.Tensor = functional.normalize(self.wide.final(self.h[at]), dim=-1) * self.wide.dim**0.5
        return made

    def _picture_of_tokens(self) -> torch.Tensor:
        """Choose the main components of the final tokens, their mean among them: (d, D), rows of one length.

        Again one dimension less than the student has, for LayerNorm; an isometry but for that and a scale,
        which is so large that the stream before it hardly counts.
        """
        d, moment = self.student.dim, torch.zeros(self.wide.dim, self.wide.dim, dtype=torch.float64)
        for at in self._chunks():
            tokens, w = self._tokens(at).flatten(0, 1), self._weights(at).reshape(-1, 1)
            moment += ((tokens * w).T @ tokens).double()
        main = torch.linalg.eigh(moment)[1].flip(1)[:, : d - 1]
        no_mean = torch.linalg.svd(torch.ones(1, d, dtype=torch.float64))[2][1:]
        scale = _LOUDER * float(self.z.square().mean().sqrt()) * (d / self.wide.dim) ** 0.5
        made: torch.Tensor = (scale * no_mean.T @ main.T).float()
        return made

    def _embed(self) -> None:
        d = self.student.dim
        sums = Sums()
        for at, aside in self._parts():
            sums.add(
                self._patches(at),
                self._goal(at)[:, 1:] - self.table[1:],
                self._weights(at)[:, 1:],
                aside=aside,
            )
        ridge = sums.ridge(torch.zeros(3 * PATCH**2 + 1, d))
        found = ridge.solution().float()
        self.state["encoder.patch_embed.proj.weight"] = found[:-1].T.reshape(d, 3, PATCH, PATCH)
        self.state["encoder.patch_embed.proj.bias"] = found[-1]
        self.state["encoder.cls_token"] = cls = self._goal(slice(0, 1))[:, :1]
        self.state["encoder.pos_embed"] = self.table[None]
        for at in self._chunks():
            self.z[at, 1:] = self._patches(at) @ found[:-1] + found[-1] + self.table[1:]
        self.z[:, :1] = cls
        self.words.append(f"patch kernel {self.wide.patch} to {PATCH}: {ridge.explained:.1%} explained")

    def _patches(self, at: slice) -> torch.Tensor:
        pixels = self._pixels(at, self.images.shape[1])
        return functional.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)

    def _read(self, i: int, branch: int) -> torch.Tensor:
        """Return how the wide network's branch would read the student's normed stream: (d + 1, out)."""
        at = slice(0, min(_CHUNK, len(self.images)))
        y, x = normed(self.z[at]), normed(self.h[at])
        seen = y @ self.turned
        scale = float((seen * x).sum() / seen.square().sum())
        weight, bias = self.wide.reads(i, branch)
        return torch.cat([scale * self.turned @ weight.T, bias[None]])

    def _attention(self, i: int) -> str:
        wide, student = self.wide, self.student
        d, count = student.dim, student.heads
        width = d // count
        read = self._read(i, 1)
        writes, bias = wide.writes(i, 1)
        sums, choosing = Sums(), Sums()
        for at, aside in self._parts():
            y, w = normed(self.z[at]), self._weights(at)
            seen, attended, self.h[at] = wide.attention(i, self.h[at])
            sums.add(y, seen, w, aside=aside)
            if at.start < _CHOOSING and wide.heads > count:
                choosing.add(_mixed(attended, y), self._goal(at) - self.z[at], w, aside=aside)
        each = wide.dim // wide.heads
        values = read[:, 2 * wide.dim :].reshape(-1, wide.heads, each)
        outs = (self.picture @ writes).T.reshape(wide.heads, each, d)
        guesses = torch.einsum("phe,heo->hpo", values[:-1], outs)
        constant = torch.einsum("he,heo->o", values[-1], outs) + self.picture @ bias
        chosen = self._heads(choosing, guesses, constant)
        columns = torch.cat([torch.arange(h * each, (h + 1) * each) for h in chosen])
        columns = torch.cat([columns, wide.dim + columns])
        linked = sums.ridge(read[:, : 2 * wide.dim])
        found = linked.solution()[:, columns].float()
        query, key = found.T.chunk(2)
        block = f"encoder.blocks.{i}."
        qk = (query[:, :-1], query[:, -1], key[:, :-1])  # a key's bias changes no attention

        def mix(z: torch.Tensor) -> torch.Tensor:
            y = normed(z)
            q = torch.unflatten(functional.linear(y, qk[0], qk[1]), -1, (count, width)).transpose(1, 2)
            k = torch.unflatten(functional.linear(y, qk[2]), -1, (count, width)).transpose(1, 2)
            return _mixed((q @ k.transpose(-1, -2) * width**-0.5).softmax(-1), y)

        sums = Sums()
        for at, aside in self._parts():
            sums.add(mix(self.z[at]), self._goal(at) - self.z[at], self._weights(at), aside=aside)
        ridge = sums.ridge(torch.cat([*(guesses[h] for h in chosen), constant[None]]))
        into, out = ridge.low_rank(count, width)
        into, out = into.float(), out.float()
        for at in self._chunks():
            y = torch.unflatten(mix(self.z[at]), -1, (count, d))
            self.z[at] += torch.einsum("nthp,hpe->nthe", y, into).flatten(2) @ out[:-1] + out[-1]
        value = into.transpose(1, 2).flatten(0, 1)
        self.state[f"{block}attn.qkv.weight"] = torch.cat([qk[0], qk[2], value])
        self.state[f"{block}attn.q_bias"], self.state[f"{block}attn.v_bias"] = qk[1], torch.zeros(d)
        self._write(block, 1, "attn.proj", out)
        kept = ", ".join(str(h) for h in chosen)
        return f"heads {kept} of {wide.heads}, {ridge.explained:.1%} explained (λ {ridge.strength:g})"

    def _heads(self, sums: Sums, guesses: torch.Tensor, constant: torch.Tensor) -> list[int]:
        """Choose heads by backward elimination, with the wide network's own attention."""
        d, left = self.student.dim, list(range(self.wide.heads))

        def explained(heads: list[int]) -> float:
            kept = torch.cat([torch.arange(h * d, (h + 1) * d) for h in heads])
            guess = torch.cat([*(guesses[h] for h in heads), constant[None]])
            return sums.ridge(guess, kept, strengths=_CHOOSE).explained

        while len(left) > self.student.heads:
            left.remove(max(left, key=lambda gone: explained([h for h in left if h != gone])))
        return left

    def _mlp(self, i: int) -> str:
        wide, d = self.wide, self.student.dim
        turns = i == wide.depth - 1 and d < wide.dim
        # Where the stream is turned, pairs of units do that: gelu(y) - gelu(-y) is y.
        lines = torch.cat([torch.eye(d), -torch.eye(d)], 1) if turns else torch.empty(d, 0)
        hidden = 4 * d - lines.shape[1]
        read = self._read(i, 2)
        writes, bias = wide.writes(i, 2)
        guess = torch.cat([(self.picture @ writes).T, (self.picture @ bias)[None]])
        sums, choosing = Sums(), Sums()
        for at, aside in self._parts():
            before, after, self.h[at] = wide.mlp(i, self.h[at])
            w = self._weights(at)
            sums.add(normed(self.z[at]), before, w, aside=aside)
            if at.start < _CHOOSING and wide.hidden > hidden:
                choosing.add(after, self._goal(at) - self.z[at], w, aside=aside)
        units = torch.arange(wide.hidden)
        if wide.hidden > hidden:
            units = fewest(choosing.ridge(guess, strengths=_CHOOSE), hidden)
        first = sums.ridge(read).solution()[:, units].float()
        guess = torch.cat([guess[units], guess[-1:]])
        if turns:
            self.final = self._picture_of_tokens()
            guess = torch.zeros(hidden + d + 1, d)

        def active(z: torch.Tensor) -> torch.Tensor:
            y = normed(z)
            found = functional.gelu(y @ first[:-1] + first[-1])
            return torch.cat([found, y], -1) if turns else found

        sums = Sums()
        for at, aside in self._parts():
            sums.add(active(self.z[at]), self._goal(at) - self.z[at], self._weights(at), aside=aside)
        ridge: Ridge = sums.ridge(guess)
        second = ridge.solution().float()
        for at in self._chunks():
            self.z[at] += active(self.z[at]) @ second[:-1] + second[-1]
        if turns:
            first = torch.cat([first, torch.cat([lines, torch.zeros(1, 2 * d)])], 1)
            second = torch.cat([second[:-1], -second[hidden:-1], second[-1:]])
        block = f"encoder.blocks.{i}."
        self.state[f"{block}mlp.fc1.weight"], self.state[f"{block}mlp.fc1.bias"] = first[:-1].T, first[-1]
        self._write(block, 2, "mlp.fc2", second)
        turned = ", turned towards the final tokens" if turns else ""
        return f"MLP {ridge.explained:.1%} explained (λ {ridge.strength:g}){turned}"

    def _write(self, block: str, branch: int, name: str, found: torch.Tensor) -> None:
        """Store a map that ends a branch; its size goes to the layer scale: all weights then learn alike."""
        weight = found[:-1].T
        usual = (2 / sum(weight.shape)) ** 0.5
        scale = float(weight.square().mean().sqrt()) / usual or 1.0
        d = self.student.dim
        self.state[f"{block}{name}.weight"], self.state[f"{block}{name}.bias"] = (
            weight / scale,
            found[-1] / scale,
        )
        self.state[f"{block}gamma_{branch}"] = torch.full((d,), scale)
        self.state[f"{block}norm{branch}.weight"] = torch.ones(d)
        self.state[f"{block}norm{branch}.bias"] = torch.zeros(d)

    def _followed(self) -> str:
        """Say how much of the wide stream's picture the student has, on the images of the first chunk."""
        at = slice(0, min(_CHUNK, len(self.images)))
        goal = self._goal(at)
        off, size = (goal - self.z[at]).square(), (goal - goal.mean((0, 1))).square()
        return f"{1 - float(off.sum() / size.sum()):.1%} of the stream followed"

    def _head(self) -> None:
        """Fit the head to the wide network's own final tokens, each of length √D."""
        d = self.student.dim
        sums = Sums()
        for at, aside in self._parts():
            sums.add(normed(normed(self.z[at])), self._tokens(at), self._weights(at), aside=aside)
        ridge = sums.ridge(torch.zeros(d + 1, self.wide.dim))
        found = ridge.solution().float()
        for name in ("encoder.norm", "decoder.norm"):
            self.state[f"{name}.weight"], self.state[f"{name}.bias"] = torch.ones(d), torch.zeros(d)
        self.state["decoder.head.weight"], self.state["decoder.head.bias"] = found[:-1].T, found[-1]
        self.words.append(f"the head explains {ridge.explained:.1%} of the final tokens")


def _spread(h: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the covariance (D, D) of normed tokens, float64."""
    x, w = normed(h).flatten(0, 1), weights.reshape(-1, 1)
    x = x - (w * x).sum(0) / w.sum()
    made: torch.Tensor = ((x * w).T @ x).double() / w.sum()
    return made


def _mixed(attended: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return what each head's attention makes of tokens (n, T, d): (n, T, heads · d)."""
    return (attended @ y[:, None]).transpose(1, 2).flatten(2)
