"""One arrow: from images with masks and an encoder to a segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from panderm.data.stored import MAX_MEGAPIXELS
from panderm.embeddings.lock import Hold
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import UsageError
from panderm.finetuning.layers import decay_groups_by_layer
from panderm.finetuning.recipe import plan_in_words
from panderm.models.device import pick_device
from panderm.models.precision import choose
from panderm.progress import say
from panderm.provenance import Provenance
from panderm.scores import DRAWS
from panderm.segmenting.learning.finished import Ending, Trained, finish
from panderm.segmenting.learning.learner import Segmenting
from panderm.segmenting.learning.objective import SegmentationLoss
from panderm.segmenting.learning.pairs import Pairs, pairs_of
from panderm.segmenting.learning.parts import Parts, parts_of
from panderm.segmenting.learning.recipe import (
    Monitor,
    RecipeName,
    Settings,
    micro_batch_for,
    plan_for,
    settings_for,
)
from panderm.segmenting.learning.run_card import SegmentationRunCard, begin, held_run
from panderm.segmenting.learning.sheet import SHEET_NAME, draw_sheet
from panderm.segmenting.learning.validation import Validation
from panderm.segmenting.learning.views import MaskViews
from panderm.segmenting.learning.watching import Watching
from panderm.segmenting.network import DecoderName, SegmenterNetwork, StartedSegmenter, segmenter_for
from panderm.storage import require_local
from panderm.training.long.card import as_asked, as_held, as_json, require_room
from panderm.training.long.journal import JOURNAL_NAME
from panderm.training.long.loop import learn
from panderm.training.long.plan import passes_of
from panderm.training.long.selection import Selection

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def train_segmenter(
    table: Path | str,
    out: Path | str,
    *,
    masks: Path | str | None = None,
    mask_column: str = "mask",
    images: Path | str | None = None,
    image_column: str = "image",
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    percent_data: float = 1.0,
    allow_leaks: bool = False,
    encoder: str | Path | None = None,
    weights: Path | str | None = None,
    card: Path | str | None = None,
    decoder: DecoderName | None = None,
    taps: Sequence[int] | None = None,
    width: int | None = None,
    image_size: int = 224,
    finetune_encoder: bool | None = None,
    recipe: RecipeName = "default",
    epochs: int | None = None,
    epoch_images: int | None = None,
    batch_size: int | None = None,
    micro_batch_size: int | None = None,
    lr: float | None = None,
    min_lr: float | None = None,
    warmup_epochs: float | None = None,
    weight_decay: float | None = None,
    clip_grad: float | None = None,
    layer_decay: float | None = None,
    drop_path: float | None = None,
    cross_entropy: float | None = None,
    dice: float | None = None,
    boundary: float | None = None,
    ema: float | None = None,
    monitor: Monitor | None = None,
    patience: int | None = None,
    largest: bool | None = None,
    fill_holes: bool | None = None,
    draws: int = DRAWS,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    device: str = "auto",
    workers: int | None = None,
    checkpoint_minutes: float = 10.0,
    tensorboard: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> Trained:
    """Train a segmenter on images with masks; run again after a stop, it goes on.

    The rows of ``train`` teach, those of ``val`` choose the epoch by masks at the network's own size, and
    those of ``test`` are looked at once, at the end, at each image's native size. The published recipe is
    that of PanDerm's segmentation (Yan S. et al., Nat. Med. 2025).

    Args:
        table: CSV or Parquet file with one row an image.
        out: folder of the run.
        masks: folder of the masks; their names come from ``mask_column``, or are the images' own.
        mask_column: column with each image's mask, where there is one.
        images: folder of the images.
        image_column: column with the file.
        split_column: column with train, val or test. Without val rows, some training rows are held out.
        patient: column with the patient.
        group: column with the lesion.
        skip_bad: leave out rows whose image or mask cannot be used.
        max_megapixels: a larger image counts as bad.
        percent_data: part of the training rows; a larger part holds a smaller one.
        allow_leaks: go on where a patient, a lesion or a file stands in two splits.
        encoder: as :func:`panderm.load_encoder` names it; any with patch tokens, or a file.
        weights: its file.
        card: your own card of it.
        decoder: ``linear``, ``convolutional``, ``upernet``; ``unet``, a network of its own (an extra).
        taps: blocks whose tokens the decoder reads, from 0.
        width: channels of the decoder.
        image_size: side in pixels of the square that an image is scaled to, a multiple of the patch's.
        finetune_encoder: whether the encoder learns too.
        recipe: ``default`` or ``published``; what follows is by default the recipe's, as are decoder and
            ``finetune_encoder``.
        epochs: passes over the training rows.
        epoch_images: images of such a pass, by default each training row once; of fewer rows each is seen
            several times, in other views. So a run on few rows takes as many steps as one on many.
        batch_size: images a step, over all processes.
        micro_batch_size: of them, in one pass of one process; the gradients of all passes are added up.
        lr: learning rate of the decoder at its height.
        min_lr: where it falls to.
        warmup_epochs: in which it rises.
        weight_decay: of AdamW.
        clip_grad: greatest norm of the gradient; 0: as it is.
        layer_decay: of an encoder that learns, factor of the rate from a layer to the one before it.
        drop_path: likewise, stochastic depth of the last block.
        cross_entropy: its weight in the loss, see ``SegmentationLoss``.
        dice: weight of the soft Dice loss.
        boundary: weight of the boundary loss.
        ema: what stays a step of a moving average of the weights, which is then what is kept; 0: none.
        monitor: what chooses the epoch on the val rows: ``jaccard``, ``dice``, ``loss``.
        patience: stop after so many epochs without a better one.
        largest: of the masks scored at the end, keep the largest part alone.
        fill_holes: fill their holes.
        draws: bootstrap draws of the scores at the end.
        precision: of the network; ``auto`` takes bfloat16 where the hardware has it.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        workers: threads that decode.
        checkpoint_minutes: between two checkpoints; 0: after every step.
        tensorboard: write its files too (an extra).
        seed: of weights, order, views, what is held out, and the bootstrap.
        overwrite: begin again where a run exists.
        progress: say what is done.
        ranks: the processes of a launcher.

    Returns:
        The finished run.

    Raises:
        UsageError: options that cannot be, or do not go together.
        TableError: rows without an image or a mask, or with a mask of another size.
        LeakError: a patient, a lesion or a file in two splits.
        DataError: a loss that is no number, or nothing to learn from.
        ParentsError: the run in ``out`` was begun with other rows or settings.
        KeyboardInterrupt: stopped; a checkpoint was written.

    Example:
        >>> run = panderm.train_segmenter(
        ...     "ham.csv", "run", images="images/", masks="masks/", encoder="panderm-base", weights="base.pth"
        ... )  # doctest: +SKIP
        >>> run.scores.per_image["jaccard"]  # doctest: +SKIP
    """
    given = dict(locals())
    ranks = ranks or Ranks()
    folder = Path(out)
    require_local(folder)
    if patience is not None and patience < 1:
        raise UsageError("--patience must be one epoch or more.", f"found {patience}")
    if epoch_images is not None and epoch_images < 1:
        raise UsageError("--epoch-images must be one image or more.", f"found {epoch_images}")
    asked = {key: as_asked(value) for key, value in given.items() if key not in _NOT_ASKED}
    settings = settings_for(recipe, asked=given)
    if encoder is None and weights is None and card is None and settings.decoder != "unet":
        raise UsageError("an encoder must be named.", hint="--encoder panderm-base --weights FILE")
    objective = SegmentationLoss(settings.cross_entropy, settings.dice, settings.boundary)
    held_record = ranks.agree(lambda: as_held(held_run(folder, overwrite=overwrite)))
    held = None if held_record is None else SegmentationRunCard.model_validate(held_record)
    if require_room(held, asked, folder):
        assert held is not None
        return Trained(folder, held, now=False)

    def looked() -> Pairs:
        return pairs_of(
            table,
            images=images,
            masks=masks,
            mask_column=mask_column,
            image_column=image_column,
            split_column=split_column,
            patient=patient,
            group=group,
            skip_bad=skip_bad,
            max_megapixels=max_megapixels,
            progress=progress and ranks.lead,
        )

    first: list[Pairs] = []
    ranks.agree(lambda: first.append(looked()))  # what is wrong with them is said once
    pairs = first[0] if first else looked()
    parts = parts_of(pairs, percent_data=percent_data, seed=seed, allow_leaks=allow_leaks)
    started = segmenter_for(
        encoder,
        weights=weights,
        card=card,
        decoder=settings.decoder,
        taps=taps,
        width=width,
        image_size=image_size,
        frozen=not settings.finetune_encoder,
        drop_path=settings.drop_path or None,
        seed=seed,
    )
    on = pick_device(ranks.device(device))
    places = len(parts.train) if epoch_images is None else epoch_images
    plan = plan_for(settings, places, precision=choose(precision, on), seed=seed)  # type: ignore[arg-type]
    at_once = micro_batch_size or micro_batch_for(settings.decoder, on)
    passes = passes_of(plan, world=ranks.world, at_once=at_once)
    seen = MaskViews.published if recipe == "published" else MaskViews.default
    views = seen(started.size, started.preprocess.interpolation)
    learner = Segmenting(
        parts.of("train"),
        views,
        objective,
        started.preprocess,
        seed=seed,
        device=on,
        places=places,
        workers=workers,
    )
    validation = Validation(parts.of("val"), started.preprocess, objective, seed=seed, workers=workers)
    selection = Selection(settings.monitor, patience)
    words = [*pairs.words, *parts.words, *started.words, f"{started.trainable:,} numbers learn"]
    run = SegmentationRunCard(
        provenance=Provenance.now(),
        asked=asked,
        plan=plan.as_dict(),
        recipe=recipe,
        rows=parts.record(),
        encoder=None if started.record is None else started.record.model_dump(mode="json"),
        network=_network(started, settings),
        recipe_settings=settings.decisive(),
        views=asdict(views),
        selection={"score": selection.score, "patience": patience},
        settings={
            "device": str(on),
            "processes": ranks.world,
            "micro_batch_size": at_once,
            "passes": passes,
            "checkpoint_minutes": checkpoint_minutes,
            "words": words,
        },
    )
    groups = _groups(started, settings)
    started.network.to(on)
    watching = Watching(
        folder,
        started,
        validation,
        selection,
        training=_training(run, parts, settings),
        dtype=_DTYPES.get(plan.precision),
        board=tensorboard and ranks.lead,
    )
    hold: list[Hold] = []

    def set_up() -> None:
        begin(folder, run, held)
        hold.append(Hold(folder, "a segmentation run"))
        sheet = draw_sheet(folder / SHEET_NAME, learner.pairs, views, seed=seed)
        if progress:
            for line in [*words, plan_in_words(plan, processes=ranks.world, passes=passes)]:
                say(line)
            if sheet is not None:
                say(f"what the network sees: {sheet}")

    ranks.agree(set_up)
    ending = Ending(
        largest=settings.largest,
        fill_holes=settings.fill_holes,
        draws=draws,
        seed=seed,
        device=str(on),
        workers=workers,
        progress=progress,
    )
    try:
        done = learn(
            learner,
            started.network,
            plan,
            folder,
            record=as_json(run.decided()),
            device=on,
            at_once=at_once,
            groups=groups,
            ranks=ranks,
            checkpoint_minutes=checkpoint_minutes,
            watch=watching,
            what="training",
            progress=progress,
        )
        watching.close()
        ends = finish(folder, run, done, watching, parts, ending, ranks)
    except KeyboardInterrupt:
        if ranks.lead and (folder / JOURNAL_NAME).exists():
            watching.after_lines()  # the curves of what there is so far
        raise
    finally:
        watching.close()
        for one in hold:
            one.release()
    return Trained(folder, ends)


_NOT_ASKED = {
    *("out", "overwrite", "progress", "ranks", "device", "workers", "micro_batch_size"),
    "checkpoint_minutes",
}


def _network(started: StartedSegmenter, settings: Settings) -> dict[str, Any]:
    return {
        "decoder": started.decoder,
        "taps": list(started.taps),
        "width": started.width,
        "backbone": started.backbone,
        "image size": started.size,
        "frozen encoder": not settings.finetune_encoder and started.record is not None,
        "drop path": settings.drop_path,
        "parameters that learn": started.trainable,
        "layers": started.layers.told,
    }


def _training(run: SegmentationRunCard, parts: Parts, settings: Settings) -> dict[str, Any]:
    """Return how a segmenter was trained, as its file tells it."""
    return {
        "recipe": run.recipe,
        "table": run.rows["table"],
        "train images": len(parts.train),
        "validation images": len(parts.val),
        "epochs": run.plan["epochs"],
        "images a step": run.plan["batch"],
        "learning rate": run.plan["rate"],
        "loss": {name: getattr(settings, name) for name in ("cross_entropy", "dice", "boundary")},
        "encoder learned": settings.finetune_encoder,
        "epoch chosen by": f"{settings.monitor} of the validation rows",
        "seed": run.plan["seed"],
    }


def _groups(started: StartedSegmenter, settings: Settings) -> list[dict[str, Any]]:
    """Return the parameters that learn, each group with its rate and its decay."""
    network: SegmenterNetwork = started.network
    if not settings.all_decay:
        return decay_groups_by_layer(network, decay=settings.weight_decay, layer_decay=settings.layer_decay)
    if settings.layer_decay != 1:
        raise UsageError(
            "the published recipe has one rate for all layers.",
            f"found --layer-decay {settings.layer_decay:g}",
            "leave it out, or the recipe",
        )
    named = [(name, one) for name, one in network.named_parameters() if one.requires_grad]
    return [
        {
            "params": [one for _, one in named],
            "names": [name for name, _ in named],
            "weight_decay": settings.weight_decay,
            "rate_scale": 1.0,
        }
    ]
