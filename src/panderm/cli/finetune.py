"""The verb ``finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from panderm.cli import options as opt
from panderm.cli.frame import show_scores, verb
from panderm.cli.probe_labels import show_label_scores

if TYPE_CHECKING:
    from panderm.finetuning.finished import Finetuned

_Recipe = "default: the recipe's"


@verb
def finetune(
    table: opt.TableFile,
    out: Annotated[Path, Option(help="Folder of the run.", show_default=False)],
    encoder: opt.EncoderName = None,
    weights: opt.Weights = None,
    card: opt.CardFile = None,
    pool: opt.PoolWay = None,
    image_size: opt.ImageSize = None,
    images: opt.Images = None,
    image_column: opt.ImageColumn = "image",
    label: opt.Label = None,
    labels: Annotated[
        str | None,
        Option(
            help="Columns of several labels an image, a,b,c, each 1, 0 or empty where not known.",
            show_default=False,
        ),
    ] = None,
    separator: Annotated[
        str | None,
        Option(
            help="The one column of --labels lists each image's labels; what stands between them: ;",
            show_default=False,
        ),
    ] = None,
    split_column: opt.SplitColumn = "split",
    patient: opt.Patient = None,
    group: opt.Group = None,
    classes: opt.Classes = None,
    skip_bad: opt.SkipBad = False,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    percent_data: opt.PercentData = 1.0,
    allow_leaks: Annotated[
        bool,
        Option("--allow-leaks", help="Go on where a patient, a lesion or a file stands in two splits."),
    ] = False,
    recipe: Annotated[
        Literal["default", "published"],
        Option(help="What is not asked for: of today, or as PanDerm was fine-tuned."),
    ] = "default",
    epochs: Annotated[
        int | None, Option(help=f"Passes over the training rows; {_Recipe}.", min=1, show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None,
        Option(
            help="Images a step, over all processes; default: the recipe's, at most 64 or 128.",
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
            help="Learning rate of the head; default: 3e-4 at 64 images a step, by the square root of the "
            "batch; published: 5e-4.",
            show_default=False,
        ),
    ] = None,
    min_lr: Annotated[
        float | None, Option(help=f"Learning rate at the end; {_Recipe}, 1e-6.", show_default=False)
    ] = None,
    warmup_epochs: Annotated[
        float | None,
        Option(
            help="Epochs in which it rises; default: a tenth of all; published: a fifth.",
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
            help="Factor of the rate from a layer to the one before; default: 0.75; published: 0.65.",
            show_default=False,
        ),
    ] = None,
    drop_path: Annotated[
        float | None,
        Option(help="Stochastic depth; default: 0.1; published: 0.2.", min=0, show_default=False),
    ] = None,
    freeze: Annotated[int, Option(help="Blocks that do not learn, from the first.", min=0)] = 0,
    lora: Annotated[
        int | None,
        Option(
            help="Rank of low-rank adapters that learn instead of the weights (an extra).",
            min=1,
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        Literal["probe", "drawn"] | None,
        Option(
            help="Where the head begins: as a linear probe of the training rows, or drawn near zero. "
            "Default: probe; published: drawn.",
            show_default=False,
        ),
    ] = None,
    mixup: Annotated[
        float | None,
        Option(help="Alpha of mixup, 0 for none; default: 0.2; published: 0.8.", min=0, show_default=False),
    ] = None,
    cutmix: Annotated[
        float | None,
        Option(help="Alpha of CutMix, 0 for none; default: 0; published: 1.", min=0, show_default=False),
    ] = None,
    smoothing: Annotated[
        float | None,
        Option(help="Label smoothing; default: 0; published: 0.1.", min=0, show_default=False),
    ] = None,
    sampler: Annotated[
        Literal["none", "balanced"] | None,
        Option(
            help="balanced: every class is drawn as often; bends the probabilities. Default: none; "
            "published: balanced.",
            show_default=False,
        ),
    ] = None,
    class_weight: Annotated[
        Literal["none", "balanced"] | None,
        Option(
            help="balanced: every class weighs the same in the loss; bends the probabilities.",
            show_default=False,
        ),
    ] = None,
    prior_correction: Annotated[
        bool,
        Option("--prior-correction", help="Undo that in the probabilities."),
    ] = False,
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
        Literal["balanced_accuracy", "accuracy", "macro_recall", "auroc", "loss"] | None,
        Option(
            help="What chooses the epoch on the val rows; default: auroc; published: accuracy.",
            show_default=False,
        ),
    ] = None,
    patience: Annotated[
        int | None,
        Option(help="Stop after so many epochs without a better one.", min=1, show_default=False),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        Option(
            help="Try values of options, lr=1e-4,5e-4 layer-decay=0.65,0.75, each combination in OUT/sweep; "
            "the best on the val rows goes on into OUT/final.",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[int, Option(help="Runs of each combination, each with its seed.", min=1)] = 1,
    tta: Annotated[
        str | None,
        Option(
            help="Views of an image at the end, beside the one: 2, 4, 8 flips and right-angle turns; "
            "published: five random ones; none. Default: none; published: published.",
            show_default=False,
        ),
    ] = None,
    calibrate: Annotated[
        Literal["none", "temperature"],
        Option(help="temperature: divide the logits by the number of least log loss on the val rows."),
    ] = "temperature",
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
    name: Annotated[
        str | None,
        Option(
            help="Name of the encoder on its card; default: with -finetuned behind it.", show_default=False
        ),
    ] = None,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Fine-tune an encoder and a head on labelled images; after a stop it goes on.

    Several processes share each step where torchrun or accelerate launch starts them.

    Example: panderm finetune ham.csv --images images/ --encoder panderm-base --weights base.pth --out run
    """
    given = {key: value for key, value in locals().items() if key not in ("as_json", "quiet")}
    from panderm.embeddings.making.ranks import Ranks

    ranks = Ranks.join()  # before torch is imported: it says how loud torch is
    ranks.hush()

    from panderm.finetuning.finetune import finetune as run
    from panderm.finetuning.grid import grid_of
    from panderm.scores import MultiLabelScores

    given |= {"labels": opt.listed(labels), "classes": opt.listed(classes)}
    given["sweep"] = grid_of(sweep) if sweep else None
    done = run(**given, progress=not quiet, ranks=ranks)
    if not as_json:
        if isinstance(done.scores, MultiLabelScores):
            show_label_scores(done.scores)
        else:
            show_scores(done.scores)
        for line in _in_words(done):
            typer.echo(line)
    return _as_dict(done)


def _in_words(done: Finetuned) -> list[str]:
    result = done.card.result or {}
    bad = f"; {result['bad']:,} training images could not be read" if result["bad"] else ""
    early = ", stopped early" if result["stopped_early"] else ""
    value = "–" if result["value"] is None else f"{result['value']:.3f}"
    steps = f"{result['steps']:,} steps{early}{bad}"
    return [
        *([] if done.now else [f"{done.folder}: finished before; nothing was to be done"]),
        f"epoch {result['best']} kept: {result['score']} {value} on val; {steps}",
        f"classifier: {done.classifier} (panderm predict {done.folder} IMAGES --out pred.csv)",
        f"report: {done.report.resolve()}",
    ]


def _as_dict(done: Finetuned) -> dict[str, Any]:
    return {
        **done.scores.as_dict(),
        "run": str(done.folder),
        "now": done.now,
        "classifier": str(done.classifier),
        "last": str(done.last),
        "predictions": str(done.folder / f"{done.predictions.card.split}.pred"),
        "report": str(done.report),
        "plan": done.card.plan,
        "recipe": done.card.recipe,
        **(done.card.result or {}),
    }
