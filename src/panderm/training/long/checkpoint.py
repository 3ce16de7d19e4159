"""Checkpoints: weights, optimiser and place in one file that is whole or absent; the last two are kept."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from panderm.errors import ArtifactError, PandermWarning
from panderm.storage import explain_write_errors, new_file, umask

FOLDER = "checkpoint"
_NAME = re.compile(r"step-(\d+)\.safetensors")
_OS_ERROR = re.compile(r"os error (\d+)")
_KEPT = 2

Tensors = dict[str, torch.Tensor]


class Saved(NamedTuple):
    """A checkpoint on disk: its file, the steps that were done, and what else the run must know."""

    path: Path
    step: int
    record: dict[str, Any]

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield each tensor with its name, one at a time."""
        with safe_open(self.path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no dictionary)
                yield name, file.get_tensor(name)


def write_checkpoint(folder: Path, step: int, tensors: Tensors, record: dict[str, Any]) -> Path:
    """Write ``checkpoint/step-N.safetensors`` in a run's folder, and remove all but the last two.

    Args:
        folder: of the run.
        step: steps that were done.
        tensors: on the CPU, contiguous.
        record: JSON-able; it stands in the file's header.

    Raises:
        ArtifactError: the disk is full, or cannot be written; the checkpoints before are untouched.
    """
    where = folder / FOLDER
    path = where / f"step-{step:09d}.safetensors"
    text = json.dumps({"step": step, **record}, allow_nan=False)
    with explain_write_errors(where):
        _sweep(where)
    with new_file(path, overwrite=True) as temporary:
        save_tensors(tensors, temporary, {"panderm": text})
    for _, old in _found(where)[_KEPT:]:
        old.unlink(missing_ok=True)
    return path


def save_tensors(tensors: Tensors, path: Path, words: dict[str, str]) -> None:
    """Write a ``.safetensors`` file under a temporary name that :func:`panderm.storage.new_file` gave.

    Raises:
        OSError: as the system refused it; the library has an exception of its own.
    """
    # The library writes beside the file under a name of its own choice, and leaves it where it is killed:
    # in a folder of our name it is found and removed.
    prefix = path.name.removesuffix("tmp")
    with tempfile.TemporaryDirectory(prefix=prefix, suffix=".tmp", dir=path.parent) as folder:
        whole = Path(folder) / "whole"
        try:
            save_file(tensors, whole, metadata=words)
        except SafetensorError as error:
            found = _OS_ERROR.search(str(error))
            raise OSError(int(found[1]) if found else None, str(error), str(path)) from error
        whole.chmod(0o666 & ~umask())  # the library makes files for their owner alone
        whole.replace(path)


def _sweep(where: Path) -> None:
    """Remove what runs that were killed left half-written, of whatever step; one process at a time writes."""
    for path in where.glob(".step-*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def last_checkpoint(folder: Path) -> Saved | None:
    """Return the last checkpoint of a run's folder that is whole; None where there is none.

    A file the disk has damaged is passed over, with a warning.

    Raises:
        ArtifactError: there are checkpoints, and none can be read.
    """
    where = folder / FOLDER
    damaged: list[Path] = []
    for step, path in _found(where):
        try:
            with safe_open(path, framework="pt") as file:
                record = json.loads((file.metadata() or {})["panderm"])
            if record.pop("step") == step:
                for one in damaged:
                    warnings.warn(
                        f"{one} is damaged: going on from {path.name}", PandermWarning, stacklevel=2
                    )
                return Saved(path, step, record)
        except (SafetensorError, OSError, ValueError, KeyError):
            pass
        damaged.append(path)
    if damaged:
        raise ArtifactError(
            "a checkpoint must be whole for a run to go on.",
            [f"{path} is damaged" for path in damaged],
            "begin again with --overwrite",
        )
    return None


def _found(where: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints of a folder, the last first."""
    if not where.is_dir():
        return []
    named = [(match, path) for path in where.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(((int(match[1]), path) for match, path in named), reverse=True)


# What is in it: the network's tensors, the optimiser's and the average's, by the parameters' names.


def gathered(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    whole: Callable[[torch.Tensor], torch.Tensor | None],
    average: Mapping[str, torch.Tensor] | None = None,
) -> Tensors:
    """Return all that a run has learned, and the average of it.

    ``whole`` gives a tensor on the CPU, or None where none is kept.
    """
    found = {f"model/{name}": whole(tensor) for name, tensor in model.state_dict().items()}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for what, tensor in optimizer.state.get(parameter, {}).items():
                found[f"optimizer/{name}/{what}"] = whole(tensor)
    for name, tensor in (average or {}).items():
        found[f"average/{name}"] = whole(tensor)
    return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}


def put_back(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    names: Collection[str],
    take: Callable[[str, torch.Tensor], torch.Tensor],
    average: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Give a network and its optimiser what :func:`gathered` returned.

    Args:
        model: the network, as it is run.
        optimizer: its optimiser, new.
        names: of the tensors there are.
        take: gives a tensor by its name, laid out like another.
        average: the tensors of the average, which are filled.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(take(f"model/{name}", tensor))
        for name, tensor in (average or {}).items():
            tensor.copy_(take(f"average/{name}", tensor))
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            prefix = f"optimizer/{name}/"
            state = {}
            for what in ("step", "exp_avg", "exp_avg_sq"):
                if prefix + what in names:
                    like = parameter.detach()
                    if what == "step":  # a number, which only a fused optimiser keeps on the device
                        like = torch.zeros((), device=like.device if optimizer.defaults["fused"] else "cpu")
                    state[what] = take(prefix + what, like)
            if state:
                optimizer.state[parameter] = state
