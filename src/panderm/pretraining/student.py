"""The student: a vision transformer that sees some patches, and is asked for the teacher's tokens of all.

Masked latent modelling as in CAE v2 (Zhang et al. 2023, arXiv:2211.09799), the method of PanDerm (Yan et al.
2025). Written anew from the descriptions; the names of the parameters are those of the published files.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from panderm.errors import DataError, UsageError, did_you_mean
from panderm.models.cards import PATCH
from panderm.models.network import position_table
from panderm.pretraining.blocks import EPS, Block
from panderm.pretraining.regressor import PUBLISHED_HEADS, Regressor, RegressorShape

StudentName = Literal["tiny", "small", "base", "large"]
Start = Literal["xavier", "truncated"]
_CUT = 0.02  # standard deviation of truncated normal weights, cut off at ±2


@dataclass(frozen=True)
class Student:
    """One size of the student, with what goes with it where not asked otherwise.

    Attributes:
        name: as a user types it.
        dim: width; depth: blocks; heads: attention heads; of patches of 16 pixels.
        regressor_depth: blocks of the regressor, which is as wide as the encoder.
        layer_scale: where γ₁ and γ₂ of the encoder's blocks start.
        mask_ratio: share of patches hidden; the larger the encoder, the more it can do without.
        drop_path: stochastic depth of the last block; it rises linearly from 0 at the first.
    """

    name: str
    dim: int
    depth: int
    heads: int
    regressor_depth: int
    layer_scale: float
    mask_ratio: float
    drop_path: float

    @property
    def regressor(self) -> RegressorShape:
        """The regressor that belongs to it: twelve heads, whatever its width, as in the published code."""
        return RegressorShape(self.dim, self.regressor_depth, PUBLISHED_HEADS, self.dim // PUBLISHED_HEADS)


STUDENTS: tuple[Student, ...] = (
    Student("tiny", 192, 12, 3, 1, layer_scale=0.1, mask_ratio=0.15, drop_path=0.0),
    Student("small", 384, 12, 6, 1, layer_scale=0.1, mask_ratio=0.25, drop_path=0.0),
    Student("base", 768, 12, 12, 4, layer_scale=0.1, mask_ratio=0.5, drop_path=0.1),
    Student("large", 1024, 24, 16, 4, layer_scale=1e-5, mask_ratio=0.5, drop_path=0.1),
)


def find_student(name: str) -> Student:
    """Return the student of a name.

    Raises:
        UsageError: there is none.
    """
    for student in STUDENTS:
        if student.name == name:
            return student
    names = [student.name for student in STUDENTS]
    raise UsageError(
        f"the student must be one of {', '.join(names)}.", f"found {name}{did_you_mean(name, names)}"
    )


class PatchEmbed(nn.Module):
    """Patches of 16 × 16 pixels to tokens, by one linear map that is stored as a convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=PATCH, stride=PATCH)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return (…, D) of patches (…, 768): 3 colours × 16 rows × 16 columns."""
        return nn.functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class VisibleEncoder(nn.Module):
    """The vision transformer of PanDerm's layout: fixed sine-cosine positions, pre-norm blocks, final norm.

    Patches that are not to be seen are left out before anything is computed of them.
    """

    def __init__(self, student: Student, patches: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, student.dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + patches, student.dim), requires_grad=False)
        self.patch_embed = PatchEmbed(student.dim)
        self.blocks = nn.ModuleList(Block(student.dim, student.heads) for _ in range(student.depth))
        self.norm = nn.LayerNorm(student.dim, eps=EPS)
        self.checkpointed = False

    def forward(
        self, pixels: torch.Tensor, seen: torch.Tensor | None = None, kept: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the final-normed tokens of CLS and the patches seen, (B, 1 + V, D).

        Args:
            pixels: (B, 3, S, S), normalised.
            seen: int64 (B, V), which patches, rising; None sees all.
            kept: (depth, 2, B), stochastic depth of the blocks' branches; None keeps all.
        """
        b, colours, side, _ = pixels.shape
        grid = side // PATCH
        patches = pixels.view(b, colours, grid, PATCH, grid, PATCH).permute(0, 2, 4, 1, 3, 5)
        if seen is None:
            patches, positions = patches.flatten(1, 2), self.pos_embed[:, 1:]
        else:
            image = torch.arange(b, device=pixels.device)[:, None]
            patches = patches[image, seen // grid, seen % grid]  # one copy, of what is seen
            positions = self.pos_embed[0, 1:][seen]
        x = self.patch_embed(patches.flatten(2)) + positions
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(b, -1, -1)
        x = torch.cat((cls.to(x.dtype), x), dim=1)
        for i, block in enumerate(self.blocks):
            which = None if kept is None else kept[i]
            if self.checkpointed and torch.is_grad_enabled():
                x = checkpoint(block, x, which, use_reentrant=False)
            else:
                x = block(x, which)
        made: torch.Tensor = self.norm(x)
        return made


class Head(nn.Module):
    """LayerNorm and Linear: from a student's token to the teacher's. All that CAE v2 leaves of a decoder."""

    def __init__(self, dim: int, target_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.head = nn.Linear(dim, target_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.norm(x))
        return made


class PretrainingModel(nn.Module):
    """Encoder, regressor and head, under the published names.

    The encoder sees CLS and the visible patches only. The regressor starts from one learned mask token for
    each masked patch and looks at the encoder's visible patches (without CLS). One head makes the teacher's
    tokens of CLS and the visible patches (the encoder's own) and of the masked patches (the regressor's).

    Weights are drawn on the CPU, each from its own name and the seed, and touch no random generator.
    Stochastic depth draws one number for each image and branch from PyTorch's default CPU generator, in
    ``forward`` while training: the same on every device, whether blocks are computed twice or not.

    For FSDP2 the units are ``encoder.blocks`` and ``regresser.regressor_blocks``, then the whole; ``encode``
    is to be registered as a forward method.

    Args:
        size: one of STUDENTS, or its name.
        target_dim: width of the teacher's tokens.
        image_size: side of the input, in pixels: a multiple of 16.
        drop_path: stochastic depth of the last block, 0 to below 1; by default the student's own.
        regressor: another form of the regressor, as a published file may have.
        start: ``xavier`` draws every linear map uniformly (Glorot), as CAE v2 does by default;
            ``truncated`` draws truncated normal numbers of deviation 0.02 and divides the maps that end the
            branches of block i (from 1) by √(2i), the start of BEiT (``--fix_init_weight`` there).
        seed: of the weights.

    Attributes:
        student, regressor_shape, target_dim, image_size: as given.
        grid: rows and columns of patches.
        checkpointed: compute the blocks' inner values again for the gradient, instead of keeping them.

    Raises:
        UsageError: an unknown student, or a number outside its range.
    """

    def __init__(
        self,
        size: Student | str,
        *,
        target_dim: int,
        image_size: int = 224,
        drop_path: float | None = None,
        regressor: RegressorShape | None = None,
        start: Start = "xavier",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.student = find_student(size) if isinstance(size, str) else size
        self.regressor_shape = regressor or self.student.regressor
        self.target_dim, self.image_size = target_dim, image_size
        self.drop_path = self.student.drop_path if drop_path is None else drop_path
        _require(image_size=image_size, target_dim=target_dim, drop_path=self.drop_path)
        self.grid = (image_size // PATCH, image_size // PATCH)
        patches = self.grid[0] * self.grid[1]
        dim, width = self.student.dim, self.regressor_shape.dim
        with torch.device("meta"):  # no number is drawn to be overwritten, and no generator is moved
            self.encoder = VisibleEncoder(self.student, patches)
            self.encoder_to_regresser = nn.Linear(dim, width) if width != dim else None
            self.encoder_to_regresser_norm = nn.LayerNorm(width, eps=EPS) if width != dim else None
            self.mask_token = nn.Parameter(torch.empty(1, 1, width))
            self.rd_pos_embed = nn.Parameter(torch.empty(1, 1 + patches, width), requires_grad=False)
            self.regresser = Regressor(self.regressor_shape)
            self.decoder = Head(width, target_dim)
        self.to_empty(device="cpu")
        self.draw(seed, start)

    @property
    def checkpointed(self) -> bool:
        """Whether inner values are computed again for the gradient."""
        return self.encoder.checkpointed

    @checkpointed.setter
    def checkpointed(self, on: bool) -> None:
        self.encoder.checkpointed = self.regresser.checkpointed = on

    def forward(self, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the teacher's tokens as the student would have them, in image order: (B, 1 + N, target_dim).

        Args:
            pixels: (B, 3, S, S), normalised as the student's card says.
            mask: bool (B, N), row by row, True for patches not to be seen: as many in each image, and not
                all. Best on the CPU, where counting them waits for nothing.

        Raises:
            DataError: pixels of another size, or masks that do not hide equally many patches.
        """
        self._require_pixels(pixels)
        masked = self._masked(pixels, mask)
        # Stable: first what is seen, then what is not, each in image order.
        order = mask.to(torch.uint8).argsort(dim=1, stable=True)
        back = order.argsort(dim=1)
        order, back = (each.to(pixels.device, non_blocking=True) for each in (order, back))
        visible = order.shape[1] - masked
        seen, unseen = order[:, :visible], order[:, visible:]
        x = self.encoder(pixels, seen if masked else None, self._kept(pixels))
        if self.encoder_to_regresser is not None and self.encoder_to_regresser_norm is not None:
            x = self.encoder_to_regresser_norm(self.encoder_to_regresser(x))
        if masked:
            positions = self.rd_pos_embed[0, 1:]
            queries = self.mask_token.expand(*unseen.shape, -1)
            found = self.regresser(queries, x[:, 1:], positions[unseen], positions[seen])
            x = _in_order(torch.cat((x, found.to(x.dtype)), dim=1), back)
        made: torch.Tensor = self.decoder(x)
        return made

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the encoder's final-normed tokens of whole images, (B, 1 + N, dim), CLS first.

        Nothing is masked and nothing dropped, in training mode too.

        Args:
            pixels: (B, 3, S, S), normalised.

        Raises:
            DataError: pixels of another size.
        """
        self._require_pixels(pixels)
        made: torch.Tensor = self.encoder(pixels)
        return made

    def freeze_regressor(self) -> None:
        """Let regressor and mask token learn nothing: where no patch is masked, nothing asks them.

        Processes that share a network wait for the gradient of all that learns.
        """
        self.regresser.requires_grad_(requires_grad=False)
        self.mask_token.requires_grad = False

    def _kept(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """Draw which branches are kept: (depth, 2, B), 0 or 1 / (1 - rate)."""
        if not self.training or self.drop_path == 0:
            return None
        depth = self.student.depth
        keep = 1 - torch.linspace(0, self.drop_path, depth)[:, None, None]
        drawn = torch.rand(depth, 2, pixels.shape[0])
        return ((drawn < keep) / keep).to(pixels.device, non_blocking=True)

    def _require_pixels(self, pixels: torch.Tensor) -> None:
        size = self.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size):
            raise DataError(f"pixels must be (B, 3, {size}, {size}).", f"found {tuple(pixels.shape)}")

    def _masked(self, pixels: torch.Tensor, mask: torch.Tensor) -> int:
        """Return how many patches each mask hides."""
        patches = self.grid[0] * self.grid[1]
        if mask.dtype != torch.bool or mask.shape != (pixels.shape[0], patches):
            raise DataError(
                f"masks must be bool ({pixels.shape[0]}, {patches}).",
                f"found {mask.dtype} {tuple(mask.shape)}",
            )
        counts = set(mask.sum(1).tolist())
        if len(counts) > 1 or patches in counts:
            raise DataError(
                "the masks of a batch must hide equally many patches, and leave some.",
                f"found {min(counts)} to {max(counts)} of {patches}",
            )
        return int(counts.pop()) if counts else 0

    @torch.no_grad()
    def draw(self, seed: int, start: Start = "xavier") -> None:
        """Draw all weights anew, each from its name and the seed.

        Positions are the fixed table, norms 1 and 0, biases 0, LayerScales the student's. Tokens are
        truncated normal numbers of deviation 0.02, the patch embedding uniform within ±1/√768, weights and
        bias. Linear maps are drawn as ``start`` says.
        """
        if start not in ("xavier", "truncated"):
            raise UsageError("start must be xavier or truncated.", f"found {start!r}")
        side = self.grid[0]
        for name, value in self.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed)
            kind = name.rpartition(".")[2]
            if kind.endswith("pos_embed"):
                value.copy_(position_table(value.shape[-1], side))
            elif kind.startswith("gamma_"):
                cross = kind.endswith("_cross")
                value.fill_(self.regressor_shape.layer_scale if cross else self.student.layer_scale)
            elif kind.endswith("_token"):
                nn.init.trunc_normal_(value, std=_CUT, generator=generator)
            elif "patch_embed" in name:
                reach = (3 * PATCH * PATCH) ** -0.5
                value.uniform_(-reach, reach, generator=generator)
            elif "norm" in name:
                value.fill_(1.0 if kind == "weight" else 0.0)
            elif kind.endswith("bias"):
                value.zero_()
            elif start == "xavier":
                nn.init.xavier_uniform_(value, generator=generator)
            else:
                nn.init.trunc_normal_(value, std=_CUT, generator=generator)
                if name.endswith(("proj.weight", "fc2.weight")):
                    value.div_((2 * (int(name.split(".")[2]) + 1)) ** 0.5)


def _require(*, image_size: int, target_dim: int, drop_path: float) -> None:
    if image_size < 2 * PATCH or image_size % PATCH:
        raise UsageError(
            f"the student's image size must be a multiple of {PATCH} pixels, {2 * PATCH} or more.",
            f"found {image_size}",
            "224 is the published one",
        )
    if target_dim < 1:
        raise UsageError("the teacher's tokens must have a width.", f"found {target_dim}")
    if not 0 <= drop_path < 1:
        raise UsageError("drop path must be at least 0 and below 1.", f"found {drop_path}", "0.1 is usual")


def _in_order(x: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """Put tokens (B, 1 + N, D), visible first, back to image order; the first, CLS, stays."""
    b, tokens, dim = x.shape
    within = nn.functional.pad(back + 1, (1, 0))
    rows = within + torch.arange(0, b * tokens, tokens, device=x.device)[:, None]
    return x.reshape(b * tokens, dim).index_select(0, rows.reshape(-1)).view(b, tokens, dim)
