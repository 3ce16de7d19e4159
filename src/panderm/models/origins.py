"""Which tensor of a file became which of a network: a mark that outlines carry through every renaming."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch


class _Marked(torch.Tensor):
    """An outline that knows the names it had in its file; what is made of it knows them too."""

    origins: tuple[str, ...] = ()

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = super().__torch_function__(func, types, args, dict(kwargs or {}))  # type: ignore[no-untyped-call]
        known = tuple(dict.fromkeys(name for each in _within(args) for name in each.origins))
        for each in _within(made):
            each.origins = known
        return made


def _within(value: Any) -> list[_Marked]:
    if isinstance(value, _Marked):
        return [value]
    return [each for part in value for each in _within(part)] if isinstance(value, tuple | list) else []


def marked(outline: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mark every outline (a tensor on the meta device) with its own name."""
    made: dict[str, torch.Tensor] = {}
    for name, value in outline.items():
        each = value.as_subclass(_Marked)
        each.origins = (name,)
        made[name] = each
    return made


def origins_of(value: torch.Tensor) -> tuple[str, ...]:
    """Return the names in its file of what a tensor was made of; none for one that was made anew."""
    return value.origins if isinstance(value, _Marked) else ()
