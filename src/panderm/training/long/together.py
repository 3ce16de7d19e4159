"""The processes that let one network learn: who computes which gradient, and what they tell each other.

They are those of ``torchrun`` or ``accelerate launch``, met through
:class:`panderm.embeddings.making.ranks.Ranks`. Gradients go over NCCL between GPUs and over gloo between
CPUs, words and numbers over gloo. The network is whole in each process (``ddp``, DistributedDataParallel), or
shared out among them, weights and optimiser too (``fsdp``, ``fully_shard``).
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import nn

from panderm.embeddings.making.ranks import Elsewhere, Ranks
from panderm.errors import PandermError, UsageError

Sharing = Literal["ddp", "fsdp"]

_PATIENCE = timedelta(days=7)  # a probe of the first process may take long; one that died is noticed at once
_REASON = "panderm/long/reason"
_WAIT = 3.0  # seconds in which a process that failed says why


class Together:
    """The processes of one run, as this one of them sees them.

    Args:
        ranks: the processes.
        device: of this one.
        sharing: how they share the network; of one process nothing is shared.
    """

    def __init__(self, ranks: Ranks, device: torch.device, sharing: Sharing = "ddp") -> None:
        self.rank, self.world, self.lead = ranks.rank, ranks.world, ranks.lead
        self.device, self.sharing = device, sharing
        self._copy: nn.Module | None = None
        self._second: nn.Module | None = None
        self._model: nn.Module | None = None
        self._wrapped: Any = None
        self._words: Any = None
        self._gradients: Any = None
        require_several(sharing, self.world)
        if self.world > 1:
            dist = torch.distributed
            if device.type == "cuda":
                torch.cuda.set_device(device)
            self._words = dist.new_group(backend="gloo", timeout=_PATIENCE)
            backend = "nccl" if device.type == "cuda" else "gloo"
            self._gradients = dist.new_group(backend=backend, timeout=_PATIENCE)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the network as it is to be called; its parameters are those of ``model``."""
        self._model = model
        self._wrapped = model
        if self.world == 1:
            return model
        # What was computed from images may differ in the last bits from process to process.
        for tensor in [*model.parameters(), *model.buffers()]:
            torch.distributed.broadcast(tensor.detach(), src=0, group=self._gradients)
        if self.sharing == "ddp":
            self._wrapped = nn.parallel.DistributedDataParallel(
                model,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                process_group=self._gradients,
                broadcast_buffers=False,
                init_sync=False,
                gradient_as_bucket_view=True,
            )
            return self._wrapped  # type: ignore[no-any-return]
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import fully_shard

        if self.lead:
            self._copy = copy.deepcopy(model).cpu()
        mesh = DeviceMesh.from_group(self._gradients, self.device.type)
        for parts in [part for part in model.modules() if isinstance(part, nn.ModuleList)]:
            for block in parts:
                fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model

    def last_pass(self, last: bool) -> AbstractContextManager[object]:
        """Return the context of a pass: gradients of whole copies meet in the last pass of a step only."""
        if self.world > 1 and self.sharing == "ddp" and not last:
            return self._wrapped.no_sync()  # type: ignore[no-any-return]
        return nullcontext()

    def whole(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return a tensor with all its parts, on the CPU, in the first process; None in the others."""
        full = getattr(tensor.detach(), "full_tensor", None)  # a DTensor has it
        found = tensor.detach() if full is None else full()
        return found.to("cpu", copy=True) if self.lead else None

    def plain(self) -> nn.Module | None:
        """Return in the first process the network as one process has it; None in the others."""
        assert self._model is not None
        if self.world == 1 or self.sharing == "ddp":
            return self._model if self.lead else None
        return self._filled(self._copy, {})

    def own(self) -> nn.Module | None:
        """Return the network as one process has it in each that has it whole; None in others."""
        return self.plain() if self.sharing == "fsdp" else self._model

    def second(self, instead: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return likewise the network with other weights; all processes must ask.

        Args:
            instead: some of its tensors, laid out as it has them. Where it is whole in each process the
                second network is one with them, and with the first in all else: nothing is there twice.
        """
        assert self._model is not None
        if self.world == 1 or self.sharing == "ddp":
            if self._second is None:
                held = [*self._model.parameters(), *self._model.buffers()]
                self._second = copy.deepcopy(self._model, {id(tensor): tensor for tensor in held})
                self._second.load_state_dict(dict(instead), strict=False, assign=True)
                self._second.eval()
            return self._second
        if self._copy is not None and self._second is None:
            self._second = copy.deepcopy(self._copy).eval()
        return self._filled(self._second, instead)

    def _filled(self, one: nn.Module | None, instead: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Give a copy the weights that are shared out."""
        assert self._model is not None
        shared = {**self._model.state_dict(), **instead}
        state = {name: self.whole(tensor) for name, tensor in shared.items()}
        if one is None:
            return None
        one.load_state_dict(state)
        return one.to(self.device)

    def laid_out(self, tensor: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """Return in every process what the first one holds, laid out as another tensor is.

        Args:
            tensor: in the first process, whole, on the CPU.
            like: a tensor of its shape and type; of a shared one each process gets its part.
        """
        if self.world > 1:
            if tensor is None:
                tensor = torch.empty(like.shape, dtype=like.dtype)
            tensor = tensor.contiguous()
            torch.distributed.broadcast(tensor, src=0, group=self._words)
        assert tensor is not None
        placed = tensor.to(like.device, copy=True)
        if self.sharing == "ddp":
            return placed
        from torch.distributed.tensor import DTensor, distribute_tensor

        if not isinstance(like, DTensor):  # the optimiser's count of steps
            return placed
        return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)

    # Words and numbers

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, in double precision."""
        if self.world == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(found, group=self._words)
        return [float(value) for value in found]

    def tell(self, value: Any) -> Any:
        """Return in every process what the first one has, JSON-able."""
        return self.gather(value if self.lead else None)[0]

    def gather(self, value: Any) -> list[Any]:
        """Return in every process what each of them has, JSON-able, in their order."""
        if self.world == 1:
            return [value]
        body = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        torch.distributed.all_gather(lengths, torch.tensor([len(body)]), group=self._words)
        longest = max(int(length) for length in lengths)
        mine = torch.zeros(longest, dtype=torch.uint8)
        mine[: len(body)] = body
        found = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world)]
        torch.distributed.all_gather(found, mine, group=self._words)
        texts = [one[: int(n)].numpy().tobytes() for one, n in zip(found, lengths, strict=True)]
        return [json.loads(text) for text in texts]

    @contextlib.contextmanager
    def end_for_all(self) -> Iterator[None]:
        """Let the first process say what ended the run, whichever process met it."""
        if self.world == 1:
            yield
            return
        store = torch.distributed.distributed_c10d._get_default_store()
        try:
            yield
        except KeyboardInterrupt:
            raise
        except Exception as error:
            lost = isinstance(error, RuntimeError) and _is_lost(error)
            if not lost:
                with contextlib.suppress(RuntimeError):
                    # The first reason counts: what the others then meet follows from it.
                    store.compare_set(_REASON, "", json.dumps(_in_words(error, self.rank, self.world)))
                raise
            raise _reason(store, self.lead) from None


def require_several(sharing: Sharing, world: int) -> None:
    """Raise :class:`UsageError` where there is nobody to share a network with."""
    if sharing == "fsdp" and world == 1:
        raise UsageError(
            "fsdp shares a network out among processes.",
            "found one process",
            "start several with torchrun or accelerate launch, or leave it out",
        )


def _is_lost(error: RuntimeError) -> bool:
    text = str(error)
    return any(word in text for word in ("gloo", "Connection", "NCCL", "Socket", "Broken pipe"))


def _in_words(error: Exception, rank: int, world: int) -> dict[str, Any]:
    if isinstance(error, PandermError):
        return {"must": error.must, "found": list(error.found), "hint": error.hint}
    first = (str(error).splitlines() or [""])[0]
    return {
        "must": "every process of a run must reach its end.",
        "found": [f"process {rank} of {world}: {type(error).__name__}: {first}"],
        "hint": None,
    }


def _reason(store: Any, lead: bool) -> PandermError:
    """Return why a process that can no longer be reached has ended, as it has said."""
    if not lead:
        return Elsewhere("another process of the run has failed.")
    until = time.monotonic() + _WAIT
    while time.monotonic() < until:
        with contextlib.suppress(RuntimeError):
            if store.check([_REASON]) and (said := store.get(_REASON)):
                parts = json.loads(said)
                return PandermError(parts["must"], parts["found"], parts["hint"])
        time.sleep(0.05)
    return PandermError(
        "every process of a run must live to its end.",
        "another process is gone: killed, or out of memory",
        "run the same command again: it goes on from the last checkpoint",
    )
