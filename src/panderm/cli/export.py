"""The verb that writes an encoder, and a probe, or a classifier, as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import verb
from panderm.errors import UsageError, plural


@verb
def export(
    encoder: Annotated[
        str,
        Argument(
            help="As for panderm embed --encoder; or a fine-tuned classifier: its run's folder, or its file.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, Argument(help="File to write, X.onnx.", show_default=False)],
    weights: opt.Weights = None,
    card: opt.CardFile = None,
    pool: opt.PoolWay = None,
    image_size: opt.ImageSize = None,
    int8: Annotated[
        bool, Option("--int8", help="8-bit linear layers: smaller and faster, at a cost that is printed.")
    ] = False,
    probe: Annotated[
        Path | None,
        Option("--with", help="Predictions, X.pred: their probe goes into the file.", show_default=False),
    ] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Write an encoder, and a probe, or a fine-tuned classifier, as one ONNX file: RGB in, probabilities out.

    Example: panderm export panderm-large lesions.onnx --weights panderm_ll_data6_checkpoint-499.pth
    --with probe.pred
    """
    from panderm.exported.export import export, names_classifier, require_ready
    from panderm.models.load import load_encoder

    require_ready(out, overwrite=overwrite)
    eye: Any = encoder
    load: dict[str, Any] = {"weights": weights, "card": card, "pool": pool, "image_size": image_size}
    if not names_classifier(encoder):
        eye = load_encoder(encoder, **load, device="cpu")
    elif given := [f"--{name.replace('_', '-')}" for name, value in load.items() if value is not None]:
        raise UsageError(
            "a classifier is exported as it is.",
            f"found {', '.join(given)} beside {encoder}",
            "leave them out",
        )
    made = export(eye, out, int8=int8, probe=probe, overwrite=overwrite, progress=not quiet)
    if not as_json:
        _tell(made, out)
    return {"onnx": str(out), "bytes": out.stat().st_size, **made.model_dump(mode="json")}


def _tell(card: Any, out: Path) -> None:
    parity = card.parity
    size = out.stat().st_size / 1e6
    what = (
        f"probabilities of {', '.join(card.classes)}" if card.classes else "no probe (--with X.pred adds one)"
    )
    typer.echo(f"{out}: {card.encoder.name}, {card.arithmetic}, {size:.1f} MB, opset {card.opset}; {what}")
    typer.echo(
        f"against PyTorch in float32, on {plural(parity.n, 'image')} ({parity.images}): largest difference "
        f"{parity.largest_difference:.2g} of numbers up to {parity.largest_number:.2g}; smallest cosine "
        f"{parity.smallest_cosine:.5f}, centred {parity.smallest_centred_cosine:.5f}"
    )
    if card.classes:
        typer.echo(
            f"probabilities: largest difference {parity.largest_probability_difference:.2g}; same class in "
            f"{parity.same_class} of {parity.n}"
        )
    typer.echo(card.use)
