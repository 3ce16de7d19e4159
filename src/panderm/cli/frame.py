"""What every verb has around it: errors as one message, exit codes, JSON, and scores as a table."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from panderm.errors import ArtifactError, PandermError, PandermWarning, plural

if TYPE_CHECKING:
    from panderm.scores import Score, Scores

P = ParamSpec("P")


class Finding(dict[str, Any]):
    """A verb's JSON whose answer is no, as of a check that fails: printed as any other, exit code 1."""


_FOUND = 1
_INTERRUPTED = 130  # what a shell reports for a command stopped with Ctrl-C


def verb(function: Callable[P, dict[str, Any]]) -> Callable[P, None]:
    """Make a command of a function that returns its JSON: errors become one message and an exit code."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        with warnings.catch_warnings(), _ended_as_by_ctrl_c():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            warnings.simplefilter("always", PandermWarning)  # whatever PYTHONWARNINGS says
            try:
                result = function(*args, **kwargs)
            except BrokenPipeError:
                raise  # the reader of a pipe has gone: typer knows what to do
            except (PandermError, OSError) as error:
                told = error if isinstance(error, PandermError) else _out_of_reach(error)
                _say(f"{type(told).__name__}: {told}")
                if as_json:
                    parts = {"type": type(told).__name__, "must": told.must, "found": list(told.found)}
                    _print_json({"error": {**parts, "hint": told.hint}})
                raise typer.Exit(told.exit_code) from None
            except KeyboardInterrupt:
                _say("stopped. What was finished is kept; run the same command again to go on.")
                raise typer.Exit(_INTERRUPTED) from None
        if as_json:
            _print_json(result)
        if isinstance(result, Finding):
            raise typer.Exit(_FOUND)

    return command


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Let the signal by which launchers, schedulers and containers end a process be heard as Ctrl-C is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _out_of_reach(error: OSError) -> PandermError:
    """Put into words what the system refused and no room of the house foresaw."""
    where = f"{error.filename}: " if error.filename else ""
    return ArtifactError("every file and folder must be within reach.", f"{where}{error.strerror or error}")


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if issubclass(category, PandermWarning):
        _say(f"warning: {message}")


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, allow_nan=False))


def show_scores(scores: Scores) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    lines = Table(box=None, pad_edge=False)
    lines.add_column("score")
    lines.add_column("value", justify="right")
    lines.add_column("95 % interval")
    for name, score in scores.scores.items():
        lines.add_row(name, *_cells(score))
    console.print(lines)
    console.print(
        f"{plural(scores.n, scores.row)} of {scores.split}; {plural(scores.clusters, scores.unit)} "
        f"resampled, {scores.draws:,} draws, seed {scores.seed}; intervals: {scores.intervals_in_words}",
        markup=False,
    )


def show_comparison(
    titles: Sequence[str], scores: Sequence[Scores], differences: Sequence[Mapping[str, Score]]
) -> None:
    """Print scores as rows and encoders as columns, then how far the others lie from the first."""
    longest = max(24, *(len(title) for title in titles))
    wide = None if sys.stdout.isatty() else max(100, 24 + (2 + min(longest, 40)) * len(titles))
    console = Console(highlight=False, width=wide)
    letters = [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(titles))]
    lines = Table(box=None, pad_edge=False)
    lines.add_column("score")
    for letter, title in zip(letters, titles, strict=True):
        lines.add_column(Text(f"{letter}  {title}"), overflow="fold")
    for name in scores[0].scores:
        lines.add_row(name, *(in_a_cell(one.scores[name]) for one in scores))
    console.print(lines)
    apart = Table(box=None, pad_edge=False)
    apart.add_column("difference")
    for letter in letters[1:]:
        apart.add_column(f"{letter} − {letters[0]}")
    for name in scores[0].scores:
        apart.add_row(name, *(in_a_cell(one[name], signed=True) for one in differences))
    console.print()
    console.print(apart)
    first = scores[0]
    console.print(
        f"{plural(first.n, first.row)} of {first.split}; {plural(first.clusters, first.unit)} resampled, "
        f"{first.draws:,} draws, seed {first.seed}, the same for all; 95 % intervals",
        markup=False,
    )
    every = [score for one in scores for score in one.scores.values()]
    every += [score for one in differences for score in one.values()]
    for reason in dict.fromkeys(score.reason for score in every if score.reason):
        console.print(f"–: {reason}", markup=False)


def in_a_cell(score: Score, *, signed: bool = False) -> str:
    """Return a value and its interval for a cell; a dash for what there is not."""
    sign, between = ("+", " to ") if signed else ("", "–")
    if score.value is None:
        return "–"
    if score.low is None:
        return f"{score.value:{sign}.3f} (–)"
    return f"{score.value:{sign}.3f} ({score.low:{sign}.3f}{between}{score.high:{sign}.3f})"


def _cells(score: Score) -> tuple[str, str]:
    if score.value is None:
        return "–", f"not computable: {score.reason}"
    if score.low is None:
        return f"{score.value:.3f}", str(score.reason)
    how = f"  {score.method}" if score.method else ""
    return f"{score.value:.3f}", f"{score.low:.3f}–{score.high:.3f}{how}"
