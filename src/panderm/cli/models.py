"""The verbs about encoders and their weights: list, show, check, pull, convert."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import Finding, verb
from panderm.errors import UsageError, plural

if TYPE_CHECKING:
    from panderm.models.cards import EncoderCard
    from panderm.models.check import Fit, Inspection

models = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
_MOST = 20
Card = Annotated[Path | None, Option(help="Your own encoder card, a JSON file.", show_default=False)]
Name = Annotated[str | None, Option("--encoder", help="Whose weights they are.", show_default=False)]


@models.callback(invoke_without_command=True)
def _models(context: typer.Context, as_json: opt.Json = False) -> None:
    """List encoders, show their cards, check and download weights.

    Example: panderm models --json
    """
    if context.invoked_subcommand is None:
        list_(as_json=as_json)


@models.command(name="list")
@verb
def list_(as_json: opt.Json = False) -> dict[str, Any]:
    """List every known encoder, whether its weights are on this machine, and how to name others.

    Example: panderm models list --json
    """
    from importlib.metadata import version
    from importlib.util import find_spec

    from panderm.models import cards

    told = []
    for card in cards.KNOWN:
        here, why = _on_this_machine(card.name, random=card.random)
        told.append({**card.model_dump(mode="json"), "on_this_machine": here, "problem": why})
    others = {
        "timm": {"installed": True, "version": version("timm")},
        "open_clip": {"installed": find_spec("open_clip") is not None},
        "transformers": {"installed": find_spec("transformers") is not None},
    }
    if not as_json:
        _tell_list(told, others)
    return {"encoders": told, "others": others}


def _on_this_machine(name: str, *, random: bool) -> tuple[bool, str | None]:
    from panderm.errors import PandermError
    from panderm.weights.cache import held
    from panderm.weights.packaged import packaged

    try:
        return random or packaged(name) is not None or held(name) is not None, None
    except PandermError as error:  # one damaged record must not hide the others
        return False, str(error)


def _tell_list(told: list[dict[str, Any]], others: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=max(150, Console().width) if not sys.stdout.isatty() else None)
    table = Table(box=None, pad_edge=False)
    for title in (
        "name",
        "architecture",
        "width",
        "parameters",
        "input",
        "pooling",
        "licence",
        "from",
        "here",
    ):
        table.add_column(title, overflow="fold", no_wrap=title == "name")
    for one in told:
        millions = f"{one['parameters'] / 1e6:.1f} M" if one["parameters"] else "–"
        pooling = one["pool"] or ("cls" if one["layout"] == "panderm" else "own")
        here = "damaged" if one["problem"] else "yes" if one["on_this_machine"] else "no"
        size = f"{one['image_size']}×{one['image_size']}"
        cells = (one["name"], one["architecture"], str(one["dim"] or "–"), millions, size, pooling)
        table.add_row(*(Text(cell) for cell in (*cells, one["licence"], one["source"], here)))
    console.print(table)
    lines = [
        f"timm:NAME           any architecture of timm {others['timm']['version']}",
        "hf-hub:ORG/NAME     a repository of the Hugging Face Hub",
        f"open_clip:ARCH/TAG  image towers of open_clip ({_installed(others['open_clip'], 'open_clip')})",
        f"transformers:ID     vision models ({_installed(others['transformers'], 'transformers')})",
        "FILE                a file that panderm convert wrote; --card my.json for an encoder of your own",
    ]
    typer.echo("\nothers, by their names elsewhere:")
    for line in lines:
        typer.echo(f"  {line}")
    typer.echo("\npanderm models show NAME prints a card; panderm models pull NAME downloads weights")


def _installed(state: dict[str, bool], extra: str) -> str:
    return "installed" if state["installed"] else f"not installed: pip install 'panderm[{extra}]'"


@models.command()
@verb
def show(
    name: Annotated[
        str | None, Argument(help="An encoder, or a file that panderm convert wrote.", show_default=False)
    ] = None,
    card: Card = None,
    as_json: opt.Json = False,
) -> dict[str, Any]:
    """Print an encoder's whole card; with --json one that --card accepts.

    Example: panderm models show panderm-base --json
    """
    described = _card_of(name, card)
    if not as_json:
        _tell_card(described)
        file = Path(name).expanduser() if name and card is None else None
        _tell_head(file)
        _tell_decoder(file)
    return described.model_dump(mode="json")


def _card_of(name: str | None, card: Path | None) -> EncoderCard:
    from panderm.models.cards import read_encoder_card
    from panderm.models.header import header_of
    from panderm.models.load import is_file_name
    from panderm.models.names import find_card

    if card is not None:
        own = read_encoder_card(card)
        if name not in (None, own.name):
            raise UsageError(
                "the name must be the card's own, or be left out.", f"{name}; {card}: {own.name}"
            )
        return own
    if name is None:
        raise UsageError("an encoder must be named.", hint="panderm models lists them")
    if not is_file_name(name):
        return find_card(name)
    header = header_of(Path(name).expanduser())
    if header is None:
        raise UsageError(
            "a file must have a panderm card in its header to be shown.",
            f"{name} has none",
            f"panderm models check {name} says what it is",
        )
    return header.card


def _tell_card(card: EncoderCard) -> None:
    lines = {
        "name": card.name,
        "architecture": card.architecture,
        "layout": card.layout + (f", {card.network}" if card.network else ""),
        "width of a vector": str(card.dim or "decided by the library"),
        "blocks, heads": f"{card.depth}, {card.heads}" if card.depth else "decided by the library",
        "parameters": f"{card.parameters:,}" if card.parameters else "decided by the library",
        "input": f"{card.image_size}×{card.image_size} pixels",
        "pixels": card.pixels,
        "pooling": card.pool or ("cls" if card.layout == "panderm" else "the library's own"),
        "final norm": "twice: all tokens, then their mean" if card.double_norm else "once",
        "weights": "drawn at random" if card.random else "trained",
        "licence": card.licence,
        "citation": card.citation,
        "source": card.source,
        "files": ", ".join(f"{file.file} ({file.location})" for file in card.files) or "none named",
        "sha256": card.sha256 or "not known beforehand",
        "self-test": "none yet: the first load on this machine writes one",
    }
    if card.fingerprint is not None:
        numbers = ", ".join(f"{x:.4f}" for x in card.fingerprint.values[:4])
        lines["self-test"] = f"{numbers} … ({card.fingerprint.pool}, {card.fingerprint.image_size} pixels)"
    for title, text in lines.items():
        typer.echo(f"{title + ':':<19} {text}")


def _tell_head(path: Path | None) -> None:
    """Print what a classifier's file says of its head."""
    from panderm.classifying.file import is_classifier, read_record

    if path is None or not is_classifier(path):
        return
    record = read_record(path)
    chosen = ", ".join(f"{name} from {value:.3g}" for name, value in record.thresholds.items())
    lines = {
        "head": f"{record.link}, {plural(len(record.classes), 'class', 'classes')}: "
        + ", ".join(record.classes),
        "calibration": f"temperature {record.temperature:.4g}",
        "thresholds": chosen or "none: the most probable class",
        "prediction sets": "calibrated" if record.conformal else "not calibrated",
        "began from": f"{record.began.name}, sha256 {record.began.weights_sha256[:16]}",
    }
    for title, text in lines.items():
        typer.echo(f"{title + ':':<19} {text}")


def _tell_decoder(path: Path | None) -> None:
    """Print what a segmenter's file says of its decoder."""
    if path is None:
        return
    from panderm.segmenting.file import is_segmenter, read_segmenter_record

    if not is_segmenter(path):
        return
    record = read_segmenter_record(path)
    assert record.began is not None  # of a U-Net no card is shown
    lines = {
        "decoder": f"{record.decoder} on blocks {', '.join(map(str, record.taps))}"
        + (f", {plural(record.width, 'channel')}" if record.width else ""),
        "masks": f"{' and '.join(record.classes)}, from a probability of {record.threshold:.3g}",
        "seen": f"the whole image, resized to {record.size}×{record.size}, {record.input.interpolation}",
        "began from": f"{record.began.name}, sha256 {record.began.weights_sha256[:16]}",
    }
    for title, text in lines.items():
        typer.echo(f"{title + ':':<19} {text}")


@models.command()
@verb
def check(
    path: Annotated[Path, Argument(help="Weights file.", show_default=False)],
    encoder: Name = None,
    card: Card = None,
    keys: Annotated[bool, Option("--keys", help="Every tensor by name.")] = False,
    as_json: opt.Json = False,
) -> dict[str, Any]:
    """Say what a weights file is: the encoder it fits, key by key, and its self-test; exit code 1 if none.

    Example: panderm models check panderm_bb_data6_checkpoint-499.pth --keys
    """
    from panderm.models.check import check_weights

    found = check_weights(path, encoder=encoder, card=card)
    if not as_json:
        _tell_verdict(found)
        if found.closest is not None:
            _tell_fit(found.closest, keys=keys)
    told = {"ok": found.ok, **found.model_dump(mode="json")}
    return told if found.ok else Finding(told)


def _tell_verdict(found: Inspection) -> None:
    fit, test = found.closest, found.self_test
    if fit is None:
        typer.echo(f"{found.path}: fits no encoder that is known, and is like none")
    elif not fit.fits:
        typer.echo(f"{found.path}: fits no encoder that was compared; the closest is {fit.encoder}")
        typer.echo(f"{plural(fit.off, 'tensor')} off")
    elif test is not None and test.passed:
        form = f" in the form --pool {fit.form}" if fit.form else ""
        typer.echo(f"{found.path}: weights of {fit.encoder}{form}; the self-test passed")
    else:
        typer.echo(f"{found.path}: has the names and shapes of {fit.encoder}, but FAILED its self-test")
    if len(found.fits) > 1:
        typer.echo(f"fits as well: {', '.join(found.fits[1:])}")
    if test is not None:
        if test.problem:
            typer.echo(f"self-test: {test.problem}")
        else:
            known = " and ".join(test.compared_with) or "nothing yet: kept for the next time"
            typer.echo(f"self-test: {', '.join(f'{x:.4f}' for x in test.first_numbers[:4])} …; like {known}")
    if found.header:
        typer.echo(f"its own card says: {found.header}")
    typer.echo(f"{found.bytes:,} bytes, {plural(found.tensors, 'tensor')}, sha256 {found.sha256}")
    for name, why in found.not_tried.items():
        typer.echo(f"not compared with {name}: {why}")


def _tell_fit(fit: Fit, *, keys: bool) -> None:
    typer.echo(f"\nagainst {fit.encoder} ({plural(fit.tensors, 'tensor')}):")
    typer.echo(f"used: {plural(len(fit.used), 'tensor')} of the file")
    if keys:
        for key, names in fit.used.items():
            typer.echo(f"  {key}" + ("" if names == (key,) else f" as {', '.join(names)}"))
    else:
        groups: dict[str, int] = {}
        for key in fit.used:
            group = (
                key.partition("blocks.")[0] + "blocks" if "blocks." in key else key.rpartition(".")[0] or key
            )
            groups[group] = groups.get(group, 0) + 1
        _tell_keys([f"{group}: {n}" for group, n in groups.items()], keys=False)
    for why, dropped in fit.dropped.items():
        typer.echo(f"dropped, {why}: {len(dropped)}")
        _tell_keys(dropped, keys=keys)
    wrong = [f"{w.key}: {w.found} instead of {w.expected}" for w in fit.wrong_shape]
    parts = {"start at zero": fit.added, "missing": fit.missing, "unexplained": fit.unexplained}
    for title, names in {**parts, "of another shape": tuple(wrong)}.items():
        if names:
            typer.echo(f"{title}: {len(names)}")
            _tell_keys(names, keys=keys)
    for note in fit.notes:
        typer.echo(f"note: {note}")


def _tell_keys(names: tuple[str, ...] | list[str], *, keys: bool) -> None:
    shown = names if keys else names[:_MOST]
    for name in shown:
        typer.echo(f"  {name}")
    if len(names) > len(shown):
        typer.echo(f"  and {len(names) - len(shown)} more; --keys lists all")


@models.command()
@verb
def pull(
    name: Annotated[str, Argument(help="An encoder, as panderm models lists them.", show_default=False)],
    accept_licence: Annotated[
        bool, Option("--accept-licence", help="Accept the licence of the weights; for scripts.")
    ] = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Download an encoder's weights, once; the licence is shown first, and asked about.

    Example: panderm models pull panderm-base --accept-licence
    """
    from panderm.models.pulling import pull
    from panderm.weights.cache import held

    path = pull(
        name,
        accept_licence=accept_licence,
        ask=_ask if sys.stdin.isatty() and not as_json else None,
        progress=not quiet,
    )
    found = held(name)
    if found is None:
        raise UsageError(f"the weights of {name} must be where they were put.", f"{path} is gone")
    record = found.record
    if not as_json:
        typer.echo(f"licence: {record.licence} (accepted {record.accepted[:10]})")
        typer.echo(f"weights: {path}, {path.stat().st_size:,} bytes, sha256 {record.files[0].sha256}")
        typer.echo(f"next: panderm embed table.csv --encoder {name} --out table.emb")
    return {"weights": str(path), **record.model_dump(mode="json")}


def _ask(question: str) -> bool:
    return typer.confirm(question, err=True)


@verb
def convert(
    source: Annotated[Path, Argument(metavar="IN", help="Weights file.", show_default=False)],
    out: Annotated[Path, Argument(help="File to write, X.safetensors.", show_default=False)],
    encoder: Name = None,
    card: Card = None,
    pool: opt.PoolWay = None,
    to: Annotated[
        Literal["panderm", "timm", "published"],
        Option(help="Whose names: the toolkit's, timm's, or those of the released files."),
    ] = "panderm",
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> dict[str, Any]:
    """Write weights as one file that knows what it is: same numbers, with their card and hashes.

    Example: panderm convert panderm_bb_data6_checkpoint-499.pth panderm-base.safetensors --to panderm
    """
    from panderm.models.convert import convert

    made = convert(source, out, encoder=encoder, card=card, pool=pool, to=to, overwrite=overwrite)
    if not as_json:
        typer.echo(f"{out}: {made.card.name}, {out.stat().st_size:,} bytes; {made.account}")
        typer.echo(f"tensors sha256 {made.tensors_sha256}; source sha256 {made.source_sha256}")
        if out.suffix == ".pth":
            typer.echo(f"next: --encoder {made.card.name} --weights {out} (a .pth has no room for its card)")
        else:
            typer.echo(f"next: --encoder {out}")
    return {"out": str(out), **made.model_dump(mode="json")}
