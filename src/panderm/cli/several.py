"""Options that take all values that follow: ``--percent 1 5 10``, ``--with age sex site``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand


class SeveralNumbers(TyperCommand):
    """A command whose ``--percent 1 5 10`` and ``--shots 1 2 4`` take all numbers that follow."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the numbers after such an option by commas, and read the rest as ever."""
        return super().parse_args(ctx, joined(args, ("--percent", "--shots"), _are_numbers))


class SeveralColumns(TyperCommand):
    """A command whose ``--with age sex site`` and ``--labels a b`` take all names that follow.

    They do where the file comes first; else the last of the names might be the file.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the names after such an option by commas, and read the rest as ever."""
        options = ("--with", "--labels") if args and _is_word(args[0]) else ()
        return super().parse_args(ctx, joined(args, options, _is_word))


class SeveralSettings(SeveralColumns):
    """A command whose ``--sweep lr=1e-4,5e-4 layer-decay=.65,.75`` takes all settings that follow."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the settings after it by commas, and read the rest as ever."""
        return super().parse_args(ctx, joined(args, ("--sweep",), _is_setting))


def joined(args: list[str], options: tuple[str, ...], belongs: Callable[[str], bool]) -> list[str]:
    """Return ``--percent 1 5 10`` as ``--percent 1,5,10``; ``belongs`` says which words do."""
    found: list[str] = []
    taking = False
    for word in args:
        own = belongs(word)
        if taking and own and found[-1] not in options:
            found[-1] += f",{word}"
        else:
            found.append(word)
            taking = word in options or (taking and own)
    return found


def _is_word(word: str) -> bool:
    return not word.startswith("-")


def _is_setting(word: str) -> bool:
    return _is_word(word) and "=" in word


def _are_numbers(word: str) -> bool:
    return all(is_number(part) for part in word.split(",") if part)


def is_number(word: str) -> bool:
    """Say whether a word is a finite number."""
    try:
        float(word)
    except ValueError:
        return False
    return word.strip().lower().lstrip("+-") not in ("nan", "inf", "infinity")
