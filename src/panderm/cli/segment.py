"""The verbs about masks of lesions: how a segmenter is trained; its other verbs have files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from panderm.cli import options as opt
from panderm.cli.curve import numbers
from panderm.cli.frame import verb
from panderm.cli.several import SeveralNumbers
from panderm.errors import UsageError

if TYPE_CHECKING:
    from panderm.segmenting.learning.finished import Trained
    from panderm.segmenting.learning.repeated import Repeated

segment = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
_Recipe = "default: the recipe's"


@segment.callback()
def _segment() -> None:
    """Outline lesions: train a segmenter on images with masks, predict masks of others, measure lesions.

    Example: panderm segment train -h
    """


@verb
def train(
    table: opt.TableFile,
    out: Annotated[Path, Option(help="Folder of the run.", show_default=False)],
    masks: Annotated[
        Path | None,
        Option(
            help="Folder of the masks: named by the table's mask column, else found by the image's name.",
            show_default=False,
        ),
    ] = None,
    mask_column: Annotated[
        str, Option(help="Column with the mask's file name, where there is one.")
    ] = "mask",
    images: opt.Images = None,
    image_column: opt.ImageColumn = "image",
    split_column: opt.SplitColumn = "split",
    patient: opt.Patient = None,
    group: opt.Group = None,
    skip_bad: Annotated[
        bool,
        Option("--skip-bad", help="Leave out rows whose image or mask cannot be used, and say so."),
    ] = False,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    percent_data: Annotated[float, Option(help="Part of the training rows, 0 to 1.")] = 1.0,
    allow_leaks: Annotated[
        bool,
        Option("--allow-leaks", help="Go on where a patient, a lesion or a file stands in two splits."),
    ] = False,
    encoder: opt.EncoderName = None,
    weights: opt.Weights = None,
    card: opt.CardFile = None,
    decoder: Annotated[
        Literal["linear", "convolutional", "upernet", "unet"] | None,
        Option(
            help="What makes a mask of patch tokens; unet is a network of its own, without --encoder (an "
            "extra). Default: convolutional; published: upernet.",
            show_default=False,
        ),
    ] = None,
    taps: Annotated[
        str | None,
        Option(help="Blocks whose tokens it reads, 3,5,7,11, from 0; default: evenly.", show_default=False),
    ] = None,
    width: Annotated[
        int | None, Option(help="Its channels; default: its own.", min=1, show_default=False)
    ] = None,
    image_size: Annotated[
        int, Option(help="Side in pixels that an image is scaled to, a multiple of the patch's.", min=14)
    ] = 224,
    finetune_encoder: Annotated[
        bool | None,
        Option(
            "--finetune-encoder/--frozen-encoder",
            help="Whether the encoder learns too; default: frozen; published: it learns.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Literal["default", "published"],
        Option(help="What is not asked for: of today, or as PanDerm's segmenter was trained."),
    ] = "default",
    epochs: Annotated[
        int | None,
        Option(help="Passes over the training rows; default: 30; published: 100.", min=1, show_default=False),
    ] = None,
    epoch_images: Annotated[
        int | None,
        Option(
            help="Images of such a pass; of fewer rows each is seen several times. Default: each row once; "
            "with --percent as many as there are in all.",
            min=1,
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        Option(
            help="Images a step, over all processes; default: at most 16; published: 2.",
            min=1,
            show_default=False,
        ),
    ] = None,
    micro_batch_size: Annotated[
        int | None,
        Option(
            help="Of them in one pass of one process; gradients add up. Default: what suits the device.",
            min=1,
            show_default=False,
        ),
    ] = None,
    lr: Annotated[
        float | None,
        Option(
            help="Learning rate of the decoder; default: 1e-3 at 16 images a step, by the square root of the "
            "batch; published: 1e-4.",
            show_default=False,
        ),
    ] = None,
    min_lr: Annotated[
        float | None,
        Option(help="Learning rate at the end; default: 1e-6; published: 0.", show_default=False),
    ] = None,
    warmup_epochs: Annotated[
        float | None,
        Option(
            help="Epochs in which it rises; default: a twentieth of all; published: 0.",
            min=0,
            show_default=False,
        ),
    ] = None,
    weight_decay: Annotated[
        float | None, Option(help=f"Of AdamW; {_Recipe}, 0.05.", min=0, show_default=False)
    ] = None,
    clip_grad: Annotated[
        float | None,
        Option(
            help="Greatest norm of the gradient, 0 for as it is; default: 1; published: 0.",
            min=0,
            show_default=False,
        ),
    ] = None,
    layer_decay: Annotated[
        float | None,
        Option(
            help="Of an encoder that learns, factor of the rate from a layer to the one before; default: "
            "0.75; published: 1.",
            show_default=False,
        ),
    ] = None,
    drop_path: Annotated[
        float | None,
        Option(
            help="Of an encoder that learns, stochastic depth; default: none.",
            min=0,
            show_default=False,
        ),
    ] = None,
    cross_entropy: Annotated[
        float | None,
        Option(help=f"Weight of the cross-entropy in the loss; {_Recipe}, 1.", min=0, show_default=False),
    ] = None,
    dice: Annotated[
        float | None,
        Option(help="Weight of the soft Dice loss; default: 1; published: 0.", min=0, show_default=False),
    ] = None,
    boundary: Annotated[
        float | None,
        Option(help=f"Weight of the boundary loss; {_Recipe}, 0.", min=0, show_default=False),
    ] = None,
    ema: Annotated[
        float | None,
        Option(
            help="Moving average of the weights, which is then chosen and kept: what stays of it a step; 0: "
            "none. Default: 0.998; published: 0.",
            min=0,
            show_default=False,
        ),
    ] = None,
    monitor: Annotated[
        Literal["jaccard", "dice", "loss"] | None,
        Option(help=f"What chooses the epoch on the val rows; {_Recipe}, jaccard.", show_default=False),
    ] = None,
    patience: Annotated[
        int | None,
        Option(help="Stop after so many epochs without a better one.", min=1, show_default=False),
    ] = None,
    largest: Annotated[
        bool | None,
        Option(
            "--largest/--all-parts",
            help="Of the masks scored at the end, keep the largest part alone; default: all; published: it "
            "alone.",
            show_default=False,
        ),
    ] = None,
    fill_holes: Annotated[
        bool | None,
        Option(
            "--fill-holes/--leave-holes",
            help="Fill the holes of the masks scored at the end; default: leave them; published: fill.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        Option(
            help="Train once for each of so many seeds, or of these, 0,1,2; one table tells the spread.",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        Option(
            help="Cross-validation: every row is tested once, patients and lesions kept whole.",
            min=2,
            show_default=False,
        ),
    ] = None,
    percent: Annotated[
        str | None,
        Option(
            help="Train on such parts of the training rows, 1,5,10,100, each within the next: how many masks "
            "are needed.",
            show_default=False,
        ),
    ] = None,
    draws: opt.Draws = 2000,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Option(help="What the network computes in; auto: bfloat16 where the hardware has it."),
    ] = "auto",
    device: opt.Device = "auto",
    workers: Annotated[
        int | None, Option(help="Threads that decode; default: all cores.", min=1, show_default=False)
    ] = None,
    checkpoint_minutes: Annotated[
        float, Option(help="Minutes between two checkpoints; 0: after every step.", min=0)
    ] = 10.0,
    tensorboard: Annotated[
        bool, Option("--tensorboard", help="Write TensorBoard's files too (an extra).")
    ] = False,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Train a segmenter on images with masks; after a stop it goes on.

    Several processes share each step where torchrun or accelerate launch starts them.

    Example: panderm segment train ham.csv --images images/ --masks masks/ --encoder panderm-base --weights
    base.pth --out run
    """
    several = ("seeds", "folds", "percent")
    given = {key: v for key, v in locals().items() if key not in ("as_json", "quiet", "several", *several)}
    from panderm.embeddings.making.ranks import Ranks

    ranks = Ranks.join()  # before torch is imported: it says how loud torch is
    ranks.hush()

    from panderm.segmenting.learning.repeats import repeat_segmenter
    from panderm.segmenting.learning.train import train_segmenter

    given["taps"] = None if taps is None else _whole_numbers("--taps", taps)
    if seeds is None and folds is None and percent is None:
        done = train_segmenter(**given, progress=not quiet, ranks=ranks)
        if not as_json:
            _tell(done)
        return _as_dict(done)
    training = {key: value for key, value in given.items() if key not in ("table", "out", "overwrite")}
    repeated = repeat_segmenter(
        table,
        out,
        seeds=None if seeds is None else _seeds(seeds),
        folds=folds,
        percent=None if percent is None else numbers("--percent", percent),
        training={**training, "progress": not quiet, "ranks": ranks},
        overwrite=overwrite,
    )
    if not as_json:
        _tell_repeats(repeated)
    return repeated.as_dict()


segment.command(name="train", cls=SeveralNumbers)(train)
# panderm segment predict and measure are registered in panderm.cli.


def _seeds(text: str) -> int | list[int]:
    """Return how many seeds, or which: ``5``, or ``0,1,2``."""
    found = _whole_numbers("--seeds", text)
    return found if "," in text else found[0]


def _whole_numbers(option: str, text: str) -> list[int]:
    found = numbers(option, text)
    if any(value != int(value) or value < 0 for value in found):
        raise UsageError(f"{option} must be whole numbers from 0.", f"found {text}")
    return [int(value) for value in found]


def _tell(done: Trained) -> None:
    from panderm.cli.evaluate_masks import show_mask_scores

    show_mask_scores(done.scores)
    for line in done.in_words():
        typer.echo(line)


def _tell_repeats(done: Repeated) -> None:
    for line in done.in_words():
        typer.echo(line)


def _as_dict(done: Trained) -> dict[str, Any]:
    return {
        **done.scores.as_dict(),
        "run": str(done.folder),
        "now": done.now,
        "segmenter": str(done.segmenter),
        "last": str(done.last),
        "masks": str(done.masks_folder),
        "report": str(done.report),
        "plan": done.card.plan,
        "recipe": done.card.recipe,
        **(done.card.result or {}),
    }
