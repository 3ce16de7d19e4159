"""The form in which a network is run: the same numbers to rounding, without the work that nobody asks for.

Of PanDerm's networks (timm's ``Beit``) and timm's plain vision transformers; any other runs as it is.

- Weights of linear layers and of the patch embedding are cast once; autocast alone would cast them for every
  batch. The result is autocast's, bit for bit.
- Where the vector is the class token's, the last block computes that token only: its query, all keys and
  values.
- Attention is written out or fused, whichever is faster there.
- On a CPU weights in bfloat16 are laid out once as its products want them.
"""

from __future__ import annotations

import copy
import functools
import itertools
import threading
from typing import Any

import torch
from timm.layers import Attention
from timm.models import beit, vision_transformer
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

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
                given, packed = (self._network, precision, self._device), not self._compile
                self._forms[precision, True] = form = inference_form(*given, packed=packed)
                self._forms[precision, False] = class_token_form(form, *given, packed=packed)
            return self._forms[precision, whole]

    def _compiled_for(self, precision: Precision, size: int) -> tuple[int, Any]:
        form = self.form(precision)
        with self._lock:
            if precision not in self._compiled:
                self._compiled[precision] = (size, torch.compile(form))
            return self._compiled[precision]

    def _pixels(self, given: torch.Tensor) -> torch.Tensor:
        if given.dtype == torch.uint8:
            return self._preprocess.normalise(given.to(self._device, non_blocking=True))
        return given.to(self._device, torch.float32)


def is_known(network: nn.Module) -> bool:
    """Say whether a network is of a kind whose form is known: PanDerm's, or timm's plain transformer."""
    return type(network) in (beit.Beit, vision_transformer.VisionTransformer)


def inference_form(
    network: nn.Module, precision: Precision, device: torch.device, *, packed: bool = True
) -> nn.Module:
    """Return a network's inference form, which shares every tensor that is not cast; it is never trained.

    Args:
        network: float32, on its device.
        precision: at which it will compute.
        device: where it is.
        packed: lay the weights out for the CPU's bfloat16 products, which no compiler could do anything with.
    """
    if not is_known(network):
        return network
    form: Any = _sharing(network)
    dtype = DTYPES.get(precision)
    if device.type == "cpu" and dtype is not None:
        tokens = int(form.patch_embed.num_patches) + int(form.num_prefix_tokens)
        for block in form.blocks if tokens <= _FEW_TOKENS else ():
            block.attn.fused_attn = False
    _reduce(form, dtype, packed=packed and device.type == "cpu")
    whole: nn.Module = form
    return whole


def class_token_form(
    form: nn.Module, network: nn.Module, precision: Precision, device: torch.device, *, packed: bool = True
) -> nn.Module:
    """Return the form that computes only the class token in its last block, where that is the vector.

    It shares every other tensor with ``form``, the whole one, that was made of ``network`` with the same
    arguments.
    """
    if not is_known(network) or not _gives_class_token(network):
        return form
    shorter, given = _sharing(form), _sharing(network)
    shorter.blocks[-1] = last = _ClassTokenOnly(given.blocks[-1])
    _reduce(last, DTYPES.get(precision), packed=packed and device.type == "cpu")
    made: nn.Module = shorter
    return made


def _sharing(network: nn.Module) -> Any:
    tensors = {id(one): one for one in itertools.chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, dict(tensors))


def _reduce(form: nn.Module, dtype: torch.dtype | None, *, packed: bool) -> None:
    """Cast the weights of linear and convolutional layers once, in place; lay out those of bfloat16."""
    if dtype is None:
        return
    packed = packed and dtype == torch.bfloat16 and _packing_works()
    for module in list(form.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Conv2d or (type(layer) is nn.Linear and not packed):
                for own, tensor in list(layer.named_parameters(recurse=False)):
                    setattr(layer, own, nn.Parameter(tensor.to(dtype), requires_grad=False))
            elif type(layer) is nn.Linear:
                bias: torch.Tensor | None = layer.bias
                if isinstance(module, beit.Attention) and name == "qkv" and module.q_bias is not None:
                    bias = _bias_of(module)
                    module.q_bias = None  # so that it calls the layer, and adds nothing
                setattr(module, name, _Packed(layer.weight, bias))


class _Packed(nn.Module):
    """A linear layer in bfloat16 whose weights lie as oneDNN's products want them, and not in any other way.

    Seen 8 to 10 % faster for a whole network on a CPU, and equal to the plain product bit for bit.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(torch.bfloat16))
        self.register_buffer("weight", packed, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.to(torch.bfloat16), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = (x.to(torch.bfloat16), self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(*given, "none", [], "")  # type: ignore[no-any-return]


@functools.cache
def _packing_works() -> bool:
    """Say whether this PyTorch has the packed product, and it equals the plain one: it is not promised."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(64, 96, device="meta")
    layer.weight = nn.Parameter(torch.randn(96, 64, generator=generator), requires_grad=False)
    layer.bias = nn.Parameter(torch.randn(96, generator=generator), requires_grad=False)
    x = torch.randn(2, 33, 64, generator=generator)
    try:
        with torch.inference_mode():
            found = _Packed(layer.weight, layer.bias)(x)
            with torch.autocast("cpu", torch.bfloat16):
                return torch.equal(found, layer(x))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


def _bias_of(attention: Any) -> torch.Tensor | None:
    """Return the bias of queries, keys and values, (3 D), or None."""
    if not isinstance(attention, beit.Attention) or attention.q_bias is None:
        bias: torch.Tensor | None = attention.qkv.bias
        return bias
    return torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))


def _gives_class_token(network: Any) -> bool:
    """Say whether the vector is the class token after blocks whose arithmetic is known."""
    last = network.blocks[-1]
    if network.global_pool != "token" or getattr(network, "attn_pool", None) is not None:
        return False
    if type(last) is beit.Block:
        return type(last.attn) is beit.Attention
    plain = type(last) is vision_transformer.Block and type(last.attn) is Attention
    return plain and getattr(last.attn, "gate", None) is None and network.cls_token is not None


class _ClassTokenOnly(nn.Module):
    """A last block that gives the class token alone, (n, 1, D): one query, all keys and values."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block
        weight, bias = block.attn.qkv.weight, _bias_of(block.attn)
        width = weight.shape[0] // 3
        self.query = _linear(weight[:width], None if bias is None else bias[:width])
        self.both = _linear(weight[width:], None if bias is None else bias[width:])
        block.attn.qkv = None

    def forward(self, x: torch.Tensor, shared_rel_pos_bias: torch.Tensor | None = None) -> torch.Tensor:
        block = self.block
        first = x[:, :1]
        attended = self._attended(block.norm1(x), shared_rel_pos_bias)
        if not isinstance(block, beit.Block):
            first = first + block.ls1(attended)
            return first + block.ls2(block.mlp(block.norm2(first)))  # type: ignore[no-any-return]
        first = first + (attended if block.gamma_1 is None else block.gamma_1 * attended)
        changed = block.mlp(block.norm2(first))
        return first + (changed if block.gamma_2 is None else block.gamma_2 * changed)  # type: ignore[no-any-return]

    def _attended(self, x: torch.Tensor, shared: torch.Tensor | None) -> torch.Tensor:
        attention = self.block.attn
        n, tokens, _ = x.shape
        heads = attention.num_heads
        q = self.query(x[:, :1]).reshape(n, 1, heads, -1).transpose(1, 2)
        k, v = self.both(x).reshape(n, tokens, 2, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        own = isinstance(attention, beit.Attention)
        mask = None
        if own:
            if attention.relative_position_bias_table is not None:
                mask = attention._get_rel_pos_bias()[..., :1, :]
            if shared is not None:
                mask = shared[..., :1, :] if mask is None else mask + shared[..., :1, :]
        else:
            q, k = attention.q_norm(q), attention.k_norm(k)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=attention.scale)
        attended = attended.transpose(1, 2).flatten(2)
        return attention.proj(attended if own else attention.norm(attended))  # type: ignore[no-any-return]


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer
