"""Which settings are tried: values of some options, in all combinations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from panderm.errors import UsageError, did_you_mean

Settings = dict[str, Any]

_NUMBERS = frozenset(
    {"lr", "min_lr", "warmup_epochs", "weight_decay", "clip_grad", "layer_decay", "drop_path", "mixup"}
    | {"cutmix", "smoothing", "ema"}
)
_WHOLE = frozenset({"epochs", "batch_size", "freeze", "lora", "image_size"})
_WORDS = frozenset({"sampler", "head", "class_weight", "recipe", "pool", "encoder"})
SWEPT = tuple(sorted(_NUMBERS | _WHOLE | _WORDS))
_HINT = "--sweep lr=1e-4,5e-4 layer-decay=0.65,0.75"


def grid_of(words: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of each option from words of the command line.

    Args:
        words: ``lr=1e-4,5e-4``, several for several options, or several in one, with commas between.

    Raises:
        UsageError: no such option, or no such number.

    Example:
        >>> grid_of(["lr=1e-4,5e-4", "layer-decay=.65,.75"])
        {'lr': [0.0001, 0.0005], 'layer_decay': [0.65, 0.75]}
    """
    found: dict[str, list[Any]] = {}
    name = None
    for part in (part.strip() for word in words for part in word.split(",")):
        value = part
        if "=" in part:
            name, _, value = part.partition("=")
            name = name.strip().removeprefix("--").replace("-", "_")
            if name in found:
                raise UsageError("--sweep names an option once.", f"found {_option(name)} twice", _HINT)
            found[name] = []
        if name is None or not value.strip():
            raise UsageError("--sweep must be options with their values.", f"found {part!r}", _HINT)
        found[name].append(_read(name, value.strip()))
    return found


def _read(name: str, text: str) -> Any:
    _require_swept(name)
    if text == "none" and name == "lora":
        return None
    try:
        return float(text) if name in _NUMBERS else int(text) if name in _WHOLE else text
    except ValueError:
        kind = "numbers" if name in _NUMBERS else "whole numbers"
        raise UsageError(f"values of {_option(name)} must be {kind}.", f"found {text!r}", _HINT) from None


def _require_swept(name: str) -> None:
    if name not in SWEPT:
        options = [_option(one) for one in SWEPT]
        raise UsageError(
            "--sweep must name options that decide how a network learns.",
            f"found {_option(name)}{did_you_mean(_option(name), options)}",
            f"those are: {', '.join(options)}",
        )


def require_grid(grid: Mapping[str, Sequence[Any]], asked: Mapping[str, Any], repeats: int) -> None:
    """Raise :class:`UsageError` where there is nothing to choose, or too much is said.

    Args:
        grid: values of each option.
        asked: all that was asked for beside; what is None, or the default, was not.
        repeats: runs of each setting.
    """
    for name, values in grid.items():
        _require_swept(name)
        if len(set(values)) != len(values) or not values:
            raise UsageError(f"--sweep needs values of {_option(name)}, each once.", f"found {list(values)}")
        if asked.get(name) and (name != "recipe" or asked[name] != "default"):
            raise UsageError(
                f"{_option(name)} is given or swept.",
                f"found {asked[name]}, and in --sweep {', '.join(map(str, values))}",
                "leave one of them out",
            )
    if not grid or (len(list(settings_of(grid))) < 2 and repeats < 2):
        raise UsageError("--sweep needs two settings to choose from.", f"found {dict(grid)}", _HINT)
    if repeats < 1:
        raise UsageError("--repeats must be at least 1.", f"found {repeats}")


def settings_of(grid: Mapping[str, Sequence[Any]]) -> Iterator[Settings]:
    """Yield every combination, the last option's values changing first."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def in_words(settings: Settings) -> str:
    """Return ``"lr 0.0005, layer-decay 0.75"``."""
    return ", ".join(f"{name.replace('_', '-')} {_short(value)}" for name, value in settings.items())


def as_options(settings: Settings) -> str:
    """Return ``"--lr 0.0005 --layer-decay 0.75"``."""
    told = {name: value for name, value in settings.items() if value is not None}
    return " ".join(f"{_option(name)} {_short(value)}" for name, value in told.items())


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
