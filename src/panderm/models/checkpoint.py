"""Open an untrusted weights file safely, rename by an explicit map, account for every key.

The only module that may call ``torch.load``.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from panderm.errors import WeightsError, did_you_mean, plural, some

_WRAPPERS = ("model", "state_dict", "module")
# Plain data that published files hold beside their tensors; none of it can run code.
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    np.dtype,
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),  # type: ignore[attr-defined]
]


@dataclass
class Account:
    """What became of every tensor of a weights file."""

    used: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, key: str, why: str) -> None:
        """Count a key as left out, and say why."""
        self.dropped.setdefault(why, []).append(key)

    def __str__(self) -> str:
        parts = [f"{plural(self.used, 'tensor')} used"]
        parts += [f"{len(keys)} dropped ({why})" for why, keys in self.dropped.items()]
        return "; ".join(parts + self.notes)


def read_state(path: Path, account: Account) -> dict[str, torch.Tensor]:
    """Read the tensors of a ``.safetensors`` or PyTorch file without running anything it holds.

    A wrapper (``{'model': …}``, ``state_dict``, ``module``) is opened; what lies beside it is accounted for.

    Raises:
        WeightsError: missing, empty, truncated, a web page, a pickle with code in it, or no tensors.
    """
    state: Mapping[str, Any] = _read_any(path)
    for name in _WRAPPERS:
        inner = state.get(name)
        if isinstance(inner, Mapping):
            for key in state:
                if key != name:
                    account.drop(key, f"beside {name!r}")
            account.notes.append(f"unwrapped from {name!r}")
            state = inner
            break
    tensors = {str(key): value for key, value in state.items() if _is_plain(value)}
    if not tensors or len(tensors) != len(state):
        strange = [str(key) for key in state if str(key) not in tensors]
        raise WeightsError(
            "a weights file must hold named tensors only.",
            f"{path} holds {some(strange) if strange else 'none'}",
            "give the file of the encoder's weights",
        )
    return _strip(tensors, "module.")


def _is_plain(value: object) -> bool:
    """Tell a tensor of numbers from one that is sparse, quantised or without any."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _strip(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    if all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _read_any(path: Path) -> dict[str, Any]:
    head = _first_bytes(path)
    if _is_safetensors(head):  # first: its header's length may look like the start of a web page
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(path, error) from None
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise WeightsError(
            "a weights file must hold weights.",
            f"{path} is a web page: the download was answered by a notice instead of the file",
            "download it again in a browser",
        )
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(
            "a weights file must hold weights.",
            f"{path} is a Git LFS pointer",
            "fetch the file itself: git lfs pull",
        )
    if not head.startswith((b"PK", b"\x80")):  # a zip archive, a pickle
        raise WeightsError(
            "a weights file must hold weights.",
            f"{path} is neither a PyTorch nor a safetensors file",
            "name the encoder's weights file, or download it again",
        )
    return _read_torch(path)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise WeightsError(
            "the weights file must exist.", f"found no file {path}", "correct --weights"
        ) from None
    except OSError as error:
        raise WeightsError("the weights file must be readable.", f"{path}: {error.strerror}") from None
    if not head:
        raise WeightsError("a weights file must hold weights.", f"{path} is empty", "download it again")
    return head


def _is_safetensors(head: bytes) -> bool:
    # Eight bytes of header length, then the header's JSON.
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 100_000_000


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        # Opened here, as torch would judge a path by its last letters.
        with (
            path.open("rb") as file,
            torch.serialization.safe_globals(_HARMLESS),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # torch's words on a strange file: ours follow
            state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise WeightsError(
                "a weights file must hold tensors, not code.",
                f"{path} asks to run {_asked_to_run(error)}; nothing was run",
                "do not trust this file; get it from its authors again, best as .safetensors",
            ) from None
        raise _damaged(path, error) from None
    except Exception as error:  # a damaged file makes torch raise a dozen kinds
        raise _damaged(path, error) from None
    if not isinstance(state, Mapping):
        raise WeightsError(
            "a weights file must hold named tensors.",
            f"{path} holds a {type(state).__name__}",
            "give a state dict",
        )
    return dict(state)


def _asked_to_run(error: pickle.UnpicklingError) -> str:
    name = re.search(r"GLOBAL ([\w.]+)\s", str(error))
    return name[1] if name else "something without a plain name"


def _damaged(path: Path, error: Exception) -> WeightsError:
    size = path.stat().st_size
    first = (str(error).splitlines() or [""])[0][:160]
    # torch advises to load without weights_only: never a user of an unknown file.
    telling = first and isinstance(error, SafetensorError | RuntimeError) and "weights_only" not in first
    why = first if telling else "its list of weights cannot be read"
    return WeightsError(
        "a weights file must be whole.",
        f"{path} ({size:,} bytes) is damaged, cut short or no weights file: {why}",
        "download it again and compare the size",
    )


# Parts of the published pretraining files that are no encoder: prefix → why it is left out.
LEFTOVERS = {
    "regresser.": "pretraining regressor",
    "decoder.": "pretraining decoder",
    "teacher.": "pretraining teacher",
    "alignment_encoder.": "pretraining alignment encoder",
    "encoder_to_regresser": "pretraining regressor",
    "rd_pos_embed": "pretraining regressor",
    "mask_token": "pretraining regressor",
}


def rename_published(state: dict[str, torch.Tensor], account: Account) -> dict[str, torch.Tensor]:
    """Keep the encoder of a published file under its plain names; leave out the rest by the list above."""
    prefixed = any(key.startswith("encoder.") for key in state)
    kept: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        why = next((why for start, why in LEFTOVERS.items() if key.startswith(start)), None)
        if why is not None:
            account.drop(key, why)
        elif key.endswith("relative_position_index"):
            account.drop(key, "computed, not learned")
        elif key.removeprefix("encoder.").startswith("head."):
            account.drop(key, "classifier")
        elif prefixed and not key.startswith("encoder."):
            kept[f"{key} (outside encoder.)"] = value
        else:
            kept[key.removeprefix("encoder.")] = value
    return kept


def match(
    state: dict[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    account: Account,
    *,
    path: Path,
    name: str,
    hint: str,
) -> dict[str, torch.Tensor]:
    """Return the file's tensors as float32, one for each expected name and none beside.

    Raises:
        WeightsError: names that are missing or unexplained, shapes that differ, values that are no
            finite floating-point numbers.
    """
    missing = [key for key in expected if key not in state]
    unexplained = [key for key in state if key not in expected]
    wrong = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    if missing or unexplained or wrong:
        found = []
        if wrong:
            key = wrong[0]
            shapes = f"{tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
            found.append(f"{plural(len(wrong), 'tensor')} of another shape: {key} is {shapes}")
        if missing:
            found.append(f"{len(missing)} missing: {some(missing)}")
        if unexplained:
            near = did_you_mean(unexplained[0], missing or expected)
            found.append(f"{len(unexplained)} that cannot be explained: {some(unexplained)}{near}")
        fit = len(expected) - len(missing) - len(wrong)
        found.insert(0, f"{path}: {fit} of {plural(len(expected), 'tensor')} fit")
        raise WeightsError(f"every tensor of a weights file must fit {name}.", found, hint)
    loaded = {}
    for key, tensor in expected.items():
        value = state[key]
        if not value.is_floating_point() and tensor.is_floating_point():
            raise WeightsError(
                f"weights of {name} must be floating-point numbers.", f"{path}: {key} is {value.dtype}", hint
            )
        loaded[key] = value.detach().to(tensor.dtype)
        if value.is_floating_point() and not bool(torch.isfinite(loaded[key]).all()):
            raise WeightsError(
                f"weights of {name} must be finite.",
                f"{path}: {key} holds NaN or infinite values",
                "download the file again, or ask its authors",
            )
    account.used = len(loaded)
    return loaded
