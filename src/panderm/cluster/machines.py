"""What Ray's machines have room for: how many encoders, and what each process takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from panderm.errors import UsageError, plural

# Encoders of a machine without GPU: more would each hold the weights in memory.
_MOST_ON_A_CPU = 4


@dataclass(frozen=True)
class Layout:
    """Who does what on how much.

    Attributes:
        actors: processes that encode.
        gpus: GPUs of each.
        cpus: logical CPUs of each; less than its threads, so that decoding has room beside it.
        threads: of PyTorch in each; None on a GPU.
        device: as of :func:`panderm.load_encoder`.
        decoders: tasks that decode beside them, at most.
        decoder_cpus: logical CPUs of each of those.
        readers: tasks that read and hash, where nothing else is done.
    """

    actors: int
    gpus: int
    cpus: float
    threads: int | None
    device: str
    decoders: int
    decoder_cpus: float
    readers: int

    @property
    def encode_options(self) -> dict[str, Any]:
        """Ray's arguments for what holds an encoder."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}

    @property
    def decode_options(self) -> dict[str, Any]:
        """Ray's arguments for what reads and decodes."""
        return {"num_cpus": self.decoder_cpus}

    def of(self, found: str) -> Layout:
        """Return the layout once the encoder says where it runs: of Apple's GPU there is one."""
        return replace(self, actors=1, threads=None) if found == "mps" else self


def layout_of(ray: Any, *, device: str, actors: int | None) -> Layout:
    """Return who does what on the machines that Ray has now.

    Raises:
        UsageError: more actors than GPUs, or than CPUs; or a GPU where there is none.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    return plan(cpus, gpus, device=device, actors=actors)


def plan(cpus: list[int], gpus: int, *, device: str, actors: int | None) -> Layout:
    """Return who does what on machines of so many CPUs each, and so many GPUs in all.

    Example:
        >>> layout = plan([2], 0, device="auto", actors=None)
        >>> layout.actors, layout.cpus, layout.threads, layout.decoders, layout.decoder_cpus
        (2, 0.75, 1, 2, 0.25)
        >>> plan([64, 64], 16, device="auto", actors=None).actors
        16
    """
    every = sum(cpus)
    if device.startswith("cuda") or (device == "auto" and gpus):
        if not gpus:
            raise UsageError(
                f"device {device!r} must exist on the cluster.", "Ray finds no GPU", "--device cpu"
            )
        _require_room(actors, gpus, "GPU")
        count = actors or gpus
        return Layout(count, 1, 1, None, "cuda", max(1, every - count), 1, every)
    _require_room(actors, every, "CPU")
    if actors is None:
        threads = max(1, min(n for n in cpus if n) // _MOST_ON_A_CPU)
        actors = sum(n // threads for n in cpus)
    else:
        # No process spans two machines.
        threads = max(1, min(every // actors, max(cpus)))
        actors = min(actors, every)
    held = 0.75 if threads == 1 else float(max(1, threads * 3 // 4))
    left = every - actors * held
    decoder = 0.25 if threads == 1 else 1.0
    return Layout(actors, 0, held, threads, device, max(1, int(left / decoder)), decoder, every)


def _require_room(actors: int | None, room: int, unit: str) -> None:
    if actors is not None and actors > room:
        raise UsageError(
            f"--actors must be at most one a {unit}.", f"found {actors}; Ray has {plural(room, unit)}"
        )
