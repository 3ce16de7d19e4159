"""The verb ``pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import verb

if TYPE_CHECKING:
    from panderm.pretraining.finished import Pretrained


@verb
def pretrain(
    source: Annotated[
        list[str],
        Argument(
            help="Folder, CSV, Parquet table, .txt list or .tar shards of images; several for several.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, Option(help="Folder of the run.", show_default=False)],
    student: Annotated[
        Literal["tiny", "small", "base", "large"], Option(help="Size of the encoder; patches of 16 pixels.")
    ] = "small",
    teacher: Annotated[
        str | None,
        Option(help="Frozen encoder with patch tokens, named as for --encoder.", show_default=False),
    ] = None,
    teacher_weights: Annotated[
        Path | None, Option(help="Its weights file; default: as downloaded.", show_default=False)
    ] = None,
    teacher_card: Annotated[Path | None, Option(help="Its card, of your own.", show_default=False)] = None,
    teacher_tokens: Annotated[
        Literal["projected", "raw"] | None,
        Option(
            help="projected: into the space shared with text (CLIP). Default: where there is one.",
            show_default=False,
        ),
    ] = None,
    teacher_precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], Option(help="What the teacher computes in.")
    ] = "auto",
    init: Annotated[
        Path | None,
        Option(
            help="Weights to begin from: a pretraining file, PanDerm's or your own, an encoder, a plain ViT; "
            "a wider ViT is narrowed on the images.",
            show_default=False,
        ),
    ] = None,
    images: opt.Images = None,
    image_column: opt.ImageColumn = "image",
    split: Annotated[
        str | None, Option(help="Rows of a table to learn from, as train; default: all.", show_default=False)
    ] = None,
    split_column: opt.SplitColumn = "split",
    patient: opt.Patient = None,
    exclude: Annotated[
        list[str] | None,
        Option(
            help="Table, .txt list or folder of images not to learn from: by file, name, patient and "
            "near-duplicate; several times.",
            show_default=False,
        ),
    ] = None,
    exclude_images: Annotated[
        Path | None, Option(help="Folder of the images of --exclude.", show_default=False)
    ] = None,
    exclude_split: Annotated[
        str | None, Option(help="Rows of --exclude, as test; default: all.", show_default=False)
    ] = None,
    exclude_patients: Annotated[
        Path | None, Option(help="Text file of patients not to learn from, one a line.", show_default=False)
    ] = None,
    no_near: Annotated[
        bool, Option("--no-near", help="Look for no near-duplicates of --exclude: faster.")
    ] = False,
    epochs: Annotated[int, Option(help="Passes over the images.", min=1)] = 100,
    batch_size: Annotated[
        int | None,
        Option(
            help="Images a step, over all processes; default: 1,920, fewer of fewer than 96,000 images.",
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
            help="Learning rate; default: 1.5e-3 at 1,920 images a step, by the square root of the batch.",
            show_default=False,
        ),
    ] = None,
    min_lr: Annotated[float, Option(help="Learning rate at the end.")] = 1e-5,
    warmup_epochs: Annotated[
        float | None,
        Option(help="Epochs in which it rises; default: 4 % of all.", min=0, show_default=False),
    ] = None,
    weight_decay: Annotated[float, Option(help="Of AdamW; not of biases, norms, tokens, positions.")] = 0.05,
    clip_grad: Annotated[float, Option(help="Greatest norm of the gradient.")] = 3.0,
    drop_path: Annotated[
        float | None,
        Option(help="Stochastic depth; default: 0.1 of base and large, else 0.", show_default=False),
    ] = None,
    mask: Annotated[Literal["block", "random"], Option(help="Masks of rectangles, or of patches.")] = "block",
    mask_ratio: Annotated[
        float | None,
        Option(
            help="Share of masked patches; default: 0.15 of tiny, 0.25 of small, else 0.5.",
            show_default=False,
        ),
    ] = None,
    cls_weight: Annotated[float, Option(help="Weight of the class token in the loss.")] = 1.0,
    visible_weight: Annotated[float, Option(help="Weight of a visible patch.")] = 1.0,
    masked_weight: Annotated[float, Option(help="Weight of a masked patch.")] = 1.0,
    crop_scale: Annotated[float, Option(help="Least share of an image's area in a crop.")] = 0.4,
    flip: Annotated[float, Option(help="Probability of a mirrored crop.")] = 0.5,
    vertical_flip: Annotated[float, Option(help="Likewise, top to bottom.")] = 0.0,
    turn: Annotated[float, Option(help="Probability of a turn by 0, 90, 180 or 270 degrees.")] = 0.0,
    color_jitter: Annotated[
        float, Option(help="Brightness, contrast, saturation: factors within 1 ± this.")
    ] = 0.0,
    hue: Annotated[float, Option(help="Shift of the hue, at most 0.5.")] = 0.0,
    student_jitter: Annotated[
        bool, Option("--student-jitter", help="Only the student sees these colours.")
    ] = False,
    views: Annotated[
        int | None,
        Option(
            help="Fixed views an image: the teacher looks at each once, and what it says is kept on disk. "
            "Default: new ones each epoch.",
            min=1,
            show_default=False,
        ),
    ] = None,
    targets: Annotated[
        Path | None,
        Option(
            help="With --views: folder of what the teacher said, for several runs; default: the run's own.",
            show_default=False,
        ),
    ] = None,
    probe: Annotated[
        Path | None,
        Option(
            help="Labelled table: a probe of the student now and then; its test rows are not looked at.",
            show_default=False,
        ),
    ] = None,
    probe_images: Annotated[
        Path | None, Option(help="Folder of the images of --probe.", show_default=False)
    ] = None,
    probe_label: Annotated[
        str | None, Option(help="Column of --probe with the class.", show_default=False)
    ] = None,
    probe_every: Annotated[
        int | None,
        Option(
            help="Epochs between two looks at the student; default: about 20 looks a run.",
            min=1,
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Option(help="What the student computes in; auto: bfloat16 where the hardware has it."),
    ] = "auto",
    device: opt.Device = "auto",
    workers: Annotated[
        int | None, Option(help="Threads that decode; default: all cores.", min=1, show_default=False)
    ] = None,
    grad_checkpointing: Annotated[
        bool, Option("--grad-checkpointing", help="Less memory for about a third more time.")
    ] = False,
    fsdp: Annotated[
        bool,
        Option("--fsdp", help="Of several processes, each holds a part of the weights, not all of them."),
    ] = False,
    checkpoint_minutes: Annotated[
        float, Option(help="Minutes between two checkpoints; 0: after every step.", min=0)
    ] = 10.0,
    save_every: Annotated[
        int, Option(help="Epochs between two encoders that are kept; 0: only the last.", min=0)
    ] = 0,
    tensorboard: Annotated[
        bool, Option("--tensorboard", help="Write TensorBoard's files too (an extra).")
    ] = False,
    name: Annotated[
        str | None,
        Option(help="Name of the encoder on its card; default: the folder's.", show_default=False),
    ] = None,
    seed: Annotated[int, Option(help="Seed of weights, order, crops and masks.", min=0, max=2**32 - 1)] = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Pretrain an encoder on images without labels, from a frozen teacher; after a stop it goes on.

    Several processes share each step where torchrun or accelerate launch starts them.

    Example: panderm pretrain images/ --student small --teacher timm:vit_small_patch14_dinov2
    --teacher-weights dinov2_vits14.safetensors --exclude ham_test.csv --epochs 100 --out run
    """
    given = {key: value for key, value in locals().items() if key not in ("as_json", "quiet")}
    from panderm.embeddings.making.ranks import Ranks

    ranks = Ranks.join()  # before torch is imported: it says how loud torch is
    ranks.hush()

    from panderm.pretraining.pretrain import pretrain as run

    done = run(**given, progress=not quiet, ranks=ranks)
    if not as_json:
        for line in _in_words(done):
            typer.echo(line)
    return _as_dict(done)


def _in_words(done: Pretrained) -> list[str]:
    result = done.card.result or {}
    if not done.now:
        return [f"{done.folder}: finished before; nothing was to be done"]
    parts = ", ".join(f"{name} {value:.4f}" for name, value in result["losses"].items())
    bad = f"; {result['bad']:,} images could not be read" if result["bad"] else ""
    return [
        f"{done.folder}: {result['steps']:,} steps; last epoch: {parts}{bad}",
        f"encoder: {done.encoder} (panderm embed … --encoder {done.encoder})",
        f"to go on with (--init): {done.whole}",
        f"report: {done.report.resolve()}",
    ]


def _as_dict(done: Pretrained) -> dict[str, Any]:
    card = done.card
    return {
        "run": str(done.folder),
        "encoder": str(done.encoder),
        "pretrained": str(done.whole),
        "report": str(done.report),
        "now": done.now,
        "source": card.source,
        "excluded": card.excluded,
        "student": card.student,
        "teacher": card.teacher,
        "plan": card.plan,
        **(card.result or {}),
    }
