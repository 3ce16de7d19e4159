"""The form in which a network is run: the same numbers to rounding, without the work that nobody asks for.

Of PanDerm's networks (timm's ``Beit``) and timm's plain vision transformers; any other runs as it is.

- Weights of linear layers and of the patch embedding are cast once; autocast alone would cast them for every
  batch. The result is autocast's, bit for bit.
- Where the vector is the class token's, the last block computes that token only: its query, all keys and
  values.
- Attention is written out or fused, whichever is faster there.
"""

from __future__ import annotations

import copy
import itertools
import threading
from typing import Any

import torch
from timm.layers import Attention
from timm.models import beit, vision_transformer
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

from panderm.data.preprocess import Preprocess
from panderm.embeddings import Precision
from panderm.models.precision import DTYPES, autocast

# Written-out attention was seen 6 to 10 % faster than fused in bfloat16 on a CPU, while its matrix of
# probabilities fits into the caches: up to about this many tokens an image.
_FEW_TOKENS = 300


class TorchEngine:
    """Runs a network with PyTorch, at any precision; several threads may call it.

    Args:
        network: float32, in evaluation mode, on its device.
        preprocess: its ``mean`` and ``std`` are applied to RGB.
        device: where the network is.
        compile: compile what is run. Batches of another size than the first, such as the short last one, run
            uncompiled: they are neither padded nor compiled for.

    The float32 network is shared, not copied. Fewer bits take half its memory on top (0.6 GB for PanDerm
    Large, beside 1.2 GB).
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        device: torch.device,
        *,
        compile: bool = False,  # noqa: A002 (torch's word)
    ) -> None:
        self._network = network
        self._preprocess = preprocess
        self._device = device
        self._compile = compile
        self._forms: dict[tuple[Precision, bool], nn.Module] = {}
        self._compiled: dict[Precision, tuple[int, Any]] = {}  # the batch size it is for
        self._lock = threading.Lock()

    def run(self, given: torch.Tensor, precision: Precision, *, check: bool = False) -> torch.Tensor:
        """Return float32 vectors (n, D), on the device, of RGB or of normalised pixels.

        Args:
            given: uint8 (n, S, S, 3), or float (n, 3, S, S).
            precision: at which to compute.
            check: never by compiled code: these images are not a batch of the work itself.
        """
        network: Any = self.form(precision)
        if self._compile and not check:
            size, compiled = self._compiled_for(precision, len(given))
            network = compiled if size == len(given) else network
        with torch.inference_mode(), autocast(precision, self._device):
            vectors: torch.Tensor = network(self._pixels(given)).float()
        return vectors

    def run_with_tokens(
        self, given: torch.Tensor, precision: Precision
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return vectors and normed patch tokens (n, h, w, D), float32 on the device, from one pass.

        None where the network is of another kind, and needs two passes.
        """
        if not is_known(self._network):
            return None
        network: Any = self.form(precision, whole=True)
        with torch.inference_mode(), autocast(precision, self._device):
            pixels = self._pixels(given)
            x = network.forward_features(pixels)
            vectors = network.forward_head(x)
            tokens = x[:, network.num_prefix_tokens :]
            if isinstance(network.norm, nn.Identity):
                tokens = network.fc_norm(tokens)  # where the norm comes after the mean
            grid = network.patch_embed.dynamic_feat_size(tuple(pixels.shape[-2:]))
            return vectors.float(), tokens.float().unflatten(1, grid)

    def form(self, precision: Precision, *, whole: bool = False) -> nn.Module:
        """Return what is run at a precision: made once, the network itself where it is of another kind.

        Args:
            precision: at which it will compute, under :func:`panderm.models.precision.autocast`.
            whole: with the last block whole, for patch tokens.
        """
        with self._lock:
            if (precision, True) not in self._forms:
                form = inference_form(self._network, precision, self._device)
                self._forms[precision, True] = form
                self._forms[precision, False] = class_token_form(form)
            return self._forms[precision, whole]

    def _compiled_for(self, precision: Precision, size: int) -> tuple[int, Any]:
        form = self.form(precision)
        with self._lock:
            if precision not in self._compiled:
                self._compiled[precision] = (size, torch.compile(form))
            return self._compiled[precision]

    def _pixels(self, given: torch.Tensor) -> torch.Tensor:
        if given.dtype == torch.uint8:
            return normalised(given.to(self._device, non_blocking=True), self._preprocess)
        return given.to(self._device, torch.float32)


def normalised(rgb: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """Return float32 (n, 3, S, S) of uint8 (n, S, S, 3): the bits that ``preprocess`` itself gives."""
    mean, std = (torch.tensor(x, device=rgb.device).view(-1, 1, 1) for x in (preprocess.mean, preprocess.std))
    pixels = rgb.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.div_(255).sub_(mean).div_(std)


def is_known(network: nn.Module) -> bool:
    """Say whether a network is of a kind whose form is known: PanDerm's, or timm's plain transformer."""
    return type(network) in (beit.Beit, vision_transformer.VisionTransformer)


def inference_form(network: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    """Return a network's inference form, which shares every tensor that is not cast; it is never trained.

    Args:
        network: float32, on its device.
        precision: at which it will compute.
        device: where it is.
    """
    if not is_known(network):
        return network
    form: Any = _sharing(network)
    dtype = DTYPES.get(precision)
    if dtype is not None:
        _cast_once(form, dtype)
    if device.type == "cpu" and dtype is not None and _tokens_of(form) <= _FEW_TOKENS:
        for block in form.blocks:
            block.attn.fused_attn = False
    whole: nn.Module = form
    return whole


def class_token_form(form: nn.Module) -> nn.Module:
    """Return the form that computes only the class token in its last block, where that is the vector."""
    if not is_known(form) or not _gives_class_token(form):
        return form
    shorter: Any = _sharing(form)
    shorter.blocks[-1] = _ClassTokenOnly(shorter.blocks[-1])
    made: nn.Module = shorter
    return made


def _sharing(network: nn.Module) -> Any:
    tensors = {id(one): one for one in itertools.chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, dict(tensors))


def _cast_once(form: nn.Module, dtype: torch.dtype) -> None:
    for module in form.modules():
        if type(module) in (nn.Linear, nn.Conv2d):
            for name, tensor in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(tensor.to(dtype), requires_grad=False))


def _tokens_of(form: Any) -> int:
    return int(form.patch_embed.num_patches) + int(form.num_prefix_tokens)


def _gives_class_token(form: Any) -> bool:
    """Say whether the vector is the class token after blocks whose arithmetic is known."""
    last = form.blocks[-1]
    if form.global_pool != "token" or getattr(form, "attn_pool", None) is not None:
        return False
    if type(last) is beit.Block:
        return type(last.attn) is beit.Attention and not last.attn.qkv_bias_separate
    plain = type(last) is vision_transformer.Block and type(last.attn) is Attention
    return plain and getattr(last.attn, "gate", None) is None and form.cls_token is not None


class _ClassTokenOnly(nn.Module):
    """A last block that gives the class token alone, (n, 1, D): one query, all keys and values."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor, shared_rel_pos_bias: torch.Tensor | None = None) -> torch.Tensor:
        block = self.block
        first = x[:, :1]
        attended = self._attended(block.attn, block.norm1(x), shared_rel_pos_bias)
        if not isinstance(block, beit.Block):
            first = first + block.ls1(attended)
            return torch.as_tensor(first + block.ls2(block.mlp(block.norm2(first))))
        first = first + (attended if block.gamma_1 is None else block.gamma_1 * attended)
        changed = block.mlp(block.norm2(first))
        return torch.as_tensor(first + (changed if block.gamma_2 is None else block.gamma_2 * changed))

    def _attended(self, attention: Any, x: torch.Tensor, shared: torch.Tensor | None) -> torch.Tensor:
        weight, heads = attention.qkv.weight, attention.num_heads
        n, tokens, _ = x.shape
        width = weight.shape[0] // 3
        own = isinstance(attention, beit.Attention)
        bias = attention.qkv.bias
        if own and attention.q_bias is not None:
            bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
        of_q, of_both = (None, None) if bias is None else (bias[:width], bias[width:])
        q = linear(x[:, :1], weight[:width], of_q).reshape(n, 1, heads, -1).transpose(1, 2)
        both = linear(x, weight[width:], of_both).reshape(n, tokens, 2, heads, -1)
        k, v = both.permute(2, 0, 3, 1, 4).unbind(0)
        mask = None
        if own:
            if attention.relative_position_bias_table is not None:
                mask = attention._get_rel_pos_bias()[:, :, :1]
            if shared is not None:
                mask = shared[:, :, :1] if mask is None else mask + shared[:, :, :1]
        else:
            q, k = attention.q_norm(q), attention.k_norm(k)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=attention.scale)
        attended = attended.transpose(1, 2).flatten(2)
        return torch.as_tensor(attention.proj(attended if own else attention.norm(attended)))
