"""Account for every tensor of a weights file: rename by an explicit map, match name by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from panderm.errors import WeightsError, did_you_mean, plural, some


@dataclass
class Account:
    """What became of every tensor of a weights file.

    Attributes:
        used: how many of the network's tensors it filled.
        names: the same one by one: the network's name, and the file's own of what it was made of (none
            for a tensor that starts at zero).
        dropped: why, and the names of what was left out.
        notes: what was done to the rest, in words.
    """

    used: int = 0
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, key: str, why: str) -> None:
        """Count a key as left out, and say why."""
        self.dropped.setdefault(why, []).append(key)

    def __str__(self) -> str:
        parts = [f"{plural(self.used, 'tensor')} used"]
        parts += [f"{len(keys)} dropped ({why})" for why, keys in self.dropped.items()]
        return "; ".join(parts + self.notes)


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

# How the names of the published segmentation code begin, with what Lightning puts before them.
SEGMENTOR = re.compile(r"(?:module\.|model\.)*segmentor\.")


def rename_published(state: dict[str, torch.Tensor], account: Account) -> dict[str, torch.Tensor]:
    """Keep the encoder of a published file under its plain names; leave out the rest by the list above."""
    state = _without_decoder(state, account)
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


def _without_decoder(state: dict[str, torch.Tensor], account: Account) -> dict[str, torch.Tensor]:
    """Keep the encoder of a checkpoint of the published segmentation code, where it is one."""
    if not any(SEGMENTOR.match(key) for key in state):
        return state
    kept: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        found = SEGMENTOR.match(key)
        rest = key[found.end() :] if found else ""
        name = rest.removeprefix("backbone.")
        if found and (name == rest or name.startswith("fpn")):
            account.drop(key, "segmentation decoder, not used by an encoder")
        else:
            kept[name if found else key] = value
    return kept


@dataclass(frozen=True)
class Differences:
    """How the names and shapes of a file differ from a network's."""

    missing: list[str]
    unexplained: list[str]
    wrong: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexplained or self.wrong)


def differences(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> Differences:
    """Compare names and shapes, of tensors with or without numbers."""
    return Differences(
        missing=[key for key in expected if key not in state],
        unexplained=[key for key in state if key not in expected],
        wrong=[key for key in expected if key in state and state[key].shape != expected[key].shape],
    )


def require_fit(
    state: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    *,
    path: Path,
    name: str,
    hint: str,
) -> None:
    """Compare names and shapes, of tensors with or without numbers.

    Raises:
        WeightsError: names that are missing or unexplained, shapes that differ.
    """
    off = differences(state, expected)
    missing, unexplained, wrong = off.missing, off.unexplained, off.wrong
    if off:
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

    ``state`` is emptied on the way, so that a file of other numbers is never held twice; tensors that are
    float32 already are handed on, not copied.

    Raises:
        WeightsError: names that are missing or unexplained, shapes that differ, values that are no
            finite floating-point numbers.
    """
    require_fit(state, expected, path=path, name=name, hint=hint)
    loaded = {}
    for key, tensor in expected.items():
        value = state.pop(key)
        if value.is_floating_point() != tensor.is_floating_point() or value.is_complex():
            kind = "floating-point" if tensor.is_floating_point() else "whole"
            raise WeightsError(
                f"weights of {name} must be {kind} numbers.", f"{path}: {key} is {value.dtype}", hint
            )
        if tensor.is_floating_point() and value.dtype.itemsize == 1:
            raise WeightsError(
                f"weights of {name} must be stored with 16 bits or more.",
                f"{path}: {key} is {value.dtype}",
                "get the file before it was shortened",
            )
        loaded[key] = value.detach().to(tensor.dtype)
        del value
        if tensor.is_floating_point() and not _is_finite(loaded[key]):
            raise WeightsError(
                f"weights of {name} must be finite.",
                f"{path}: {key} holds NaN or infinite values",
                "download the file again, or ask its authors",
            )
    account.used = len(loaded)
    return loaded


def require_finite(tensors: Mapping[str, torch.Tensor], path: Path, *, noun: str) -> None:
    """Refuse what a training may leave behind where it ran away.

    Args:
        tensors: by their names.
        path: of the file, for messages.
        noun: whose they are: ``a classifier``.

    Raises:
        WeightsError: a number that is NaN or infinite.
    """
    bad = [name for name, one in tensors.items() if one.is_floating_point() and not _is_finite(one)]
    if bad:
        raise WeightsError(
            f"the weights of {noun} must be finite.",
            f"{path}: {bad[0]} holds NaN or infinity",
            "go back to a checkpoint of before, with a lower learning rate",
        )


def _is_finite(values: torch.Tensor) -> bool:
    # NaN and infinity stay in a sum, which needs no second tensor; finite numbers may overflow in it.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
