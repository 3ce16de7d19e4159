"""One arrow: from labelled images and an encoder to a classifier whose encoder has learned too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from panderm.classifying.tta import tta_views
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.table import Table, read_table
from panderm.embeddings.lock import Hold
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import UsageError
from panderm.finetuning.finished import Ending, Finetuned, finish
from panderm.finetuning.first_head import begin_as_probe
from panderm.finetuning.layers import decay_groups_by_layer
from panderm.finetuning.learner import Classifying
from panderm.finetuning.mixing import Mix
from panderm.finetuning.network import network_for
from panderm.finetuning.predicted import method_of
from panderm.finetuning.recipe import (
    Balance,
    Head,
    Monitor,
    RecipeName,
    micro_batch_for,
    plan_for,
    plan_in_words,
    settings_for,
)
from panderm.finetuning.rows import rows_of
from panderm.finetuning.run_card import FineTuningCard, begin, held_run
from panderm.finetuning.selection import chosen_by
from panderm.finetuning.sheet import SHEET_NAME, draw_sheet
from panderm.finetuning.sweep import swept
from panderm.finetuning.teaching import teaching_of
from panderm.finetuning.validation import Validation
from panderm.finetuning.views import TrainViews
from panderm.finetuning.watching import Watching
from panderm.models.cards import Pool
from panderm.models.device import pick_device
from panderm.models.precision import choose
from panderm.probing.splits import Calibrate
from panderm.progress import say
from panderm.provenance import Provenance
from panderm.scores import DRAWS
from panderm.storage import require_local
from panderm.training.long.card import as_asked, as_held, as_json, require_room
from panderm.training.long.journal import JOURNAL_NAME
from panderm.training.long.loop import learn
from panderm.training.long.plan import passes_of
from panderm.training.long.selection import Selection

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def finetune(
    table: Path | str,
    out: Path | str,
    *,
    encoder: str | Path | None = None,
    weights: Path | str | None = None,
    card: Path | str | None = None,
    pool: Pool | None = None,
    image_size: int | None = None,
    images: Path | str | None = None,
    image_column: str = "image",
    label: str | None = None,
    labels: Sequence[str] | None = None,
    separator: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    percent_data: float = 1.0,
    allow_leaks: bool = False,
    recipe: RecipeName = "default",
    epochs: int | None = None,
    batch_size: int | None = None,
    micro_batch_size: int | None = None,
    lr: float | None = None,
    min_lr: float | None = None,
    warmup_epochs: float | None = None,
    weight_decay: float | None = None,
    clip_grad: float | None = None,
    layer_decay: float | None = None,
    drop_path: float | None = None,
    freeze: int = 0,
    lora: int | None = None,
    head: Head | None = None,
    mixup: float | None = None,
    cutmix: float | None = None,
    smoothing: float | None = None,
    sampler: Balance | None = None,
    class_weight: Balance | None = None,
    prior_correction: bool = False,
    ema: float | None = None,
    monitor: Monitor | None = None,
    patience: int | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    repeats: int = 1,
    tta: str | None = None,
    calibrate: Calibrate = "temperature",
    draws: int = DRAWS,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    device: str = "auto",
    workers: int | None = None,
    checkpoint_minutes: float = 10.0,
    tensorboard: bool = False,
    name: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> Finetuned:
    """Fine-tune an encoder and a new linear head on labelled images; run again after a stop, it goes on.

    The rows of ``train`` teach, those of ``val`` choose the epoch, those of ``test`` are looked at once, at
    the end. Layers learn at rates that fall from the head to the pixels (layer decay), after a warm-up along
    half a cosine. The published recipe is that of PanDerm (Yan S. et al., Nat. Med. 2025).

    Args:
        table: CSV or Parquet file of labelled images.
        out: folder of the run.
        encoder: as :func:`panderm.load_encoder` names it; any encoder, or a file.
        weights: its file.
        card: your own card of it.
        pool: ``cls`` or ``mean``; by default PanDerm's layout takes the mean, others their own.
        image_size: side of the input in pixels.
        images: folder of the images.
        image_column: column with the file.
        label: column with the class.
        labels: columns of several labels an image, instead of ``label``.
        separator: with it the one column of ``labels`` lists them.
        split_column: column with train, val or test. Without val rows, some training rows are held out.
        patient: column with the patient.
        group: column with the lesion.
        classes: all classes in their order; of two, the second is the positive one.
        skip_bad: leave out rows whose image cannot be read or whose label is empty.
        max_megapixels: a larger image counts as bad.
        percent_data: part of the training rows, as of :func:`panderm.probe`.
        allow_leaks: go on where a patient, a lesion or a file stands in two splits.
        recipe: ``default`` or ``published``; what follows is by default the recipe's.
        epochs: passes over the training rows.
        batch_size: images a step, over all processes.
        micro_batch_size: of them, in one pass of one process; the gradients of all passes are added up.
        lr: learning rate of the head at its height.
        min_lr: where it falls to.
        warmup_epochs: in which it rises.
        weight_decay: of AdamW.
        clip_grad: greatest norm of the gradient; 0: as it is.
        layer_decay: factor of the rate from a layer to the one before it.
        drop_path: stochastic depth of the last block.
        freeze: blocks that do not learn, from the first; the patches before them neither.
        lora: rank of low-rank adapters, which learn instead of the encoder's weights (an extra).
        head: where the head begins: as a linear ``probe`` of the training rows, or ``drawn`` near zero.
        mixup: alpha of mixup; 0: none.
        cutmix: alpha of CutMix; 0: none.
        smoothing: of labels.
        sampler: ``balanced``: every class is drawn as often as any other.
        class_weight: ``balanced``: every class counts as much as any other in the loss.
        prior_correction: undo in the probabilities what ``sampler`` or ``class_weight`` do to them.
        ema: what stays a step of a moving average of the weights, which is then what is kept; 0: none.
        monitor: what chooses the epoch on the val rows: ``auroc``, ``balanced_accuracy``, ``accuracy``,
            ``macro_recall``, ``loss``.
        patience: stop after so many epochs without a better one.
        sweep: values of some of these options, ``{"lr": [1e-4, 5e-4]}``: every combination is learned in
            ``sweep/``, the best on the val rows is chosen, and the run with it lies in ``final/``.
        repeats: runs of each combination, with seeds from ``seed`` on.
        tta: views of an image at the end, beside the one: ``2``, ``4``, ``8`` or ``published``.
        calibrate: ``temperature``: of least log loss on the val rows; ``none``.
        draws: bootstrap draws of the scores at the end.
        precision: of the network; ``auto`` takes bfloat16 where the hardware has it.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        workers: threads that decode.
        checkpoint_minutes: between two checkpoints; 0: after every step.
        tensorboard: write its files too (an extra).
        name: of the encoder, on its card.
        seed: of weights, order, views, mixes, what is held out, and the bootstrap.
        overwrite: begin again where a run exists.
        progress: say what is done.
        ranks: the processes of a launcher.

    Returns:
        The finished run.

    Raises:
        UsageError: options that cannot be, or do not go together.
        TableError: rows without an image or a label.
        LeakError: a patient, a lesion or a file in two splits.
        DataError: a loss that is no number, a class that is never trained, an image that cannot be read.
        ParentsError: the run in ``out`` was begun with other rows or settings.
        KeyboardInterrupt: stopped; a checkpoint was written.

    Example:
        >>> run = panderm.finetune(
        ...     "ham.csv", "run", images="images/", encoder="panderm-base", weights="base.pth"
        ... )  # doctest: +SKIP
        >>> run.scores.scores["balanced_accuracy"]  # doctest: +SKIP
    """
    given = dict(locals())
    if sweep is not None:
        return swept(finetune, given)
    if repeats != 1:
        raise UsageError("--repeats must come with --sweep.", f"found {repeats}")
    ranks = ranks or Ranks()
    folder = Path(out)
    require_local(folder)
    if encoder is None and weights is None and card is None:
        raise UsageError("an encoder must be named.", hint="--encoder panderm-base --weights FILE")
    if calibrate not in ("none", "temperature"):
        raise UsageError(f"calibrate must be none or temperature, not {calibrate!r}.")
    if patience is not None and patience < 1:
        raise UsageError("--patience must be one epoch or more.", f"found {patience}")
    if separator is not None and not labels:
        raise UsageError("--separator must come with --labels.", "found no --labels")
    asked = {key: as_asked(value) for key, value in given.items() if key not in _NOT_ASKED}
    held_record = ranks.agree(lambda: as_held(held_run(folder, overwrite=overwrite)))
    held = None if held_record is None else FineTuningCard.model_validate(held_record)
    if require_room(held, asked, folder):
        assert held is not None
        return Finetuned(folder, held, now=False)
    read = partial(
        read_table,
        table,
        images=images,
        image_column=image_column,
        label=label,
        split_column=split_column,
        patient=patient,
        group=group,
        classes=classes,
        skip_bad=skip_bad,
        max_megapixels=max_megapixels,
        progress=progress and ranks.lead,
    )
    tables: list[Table] = []

    def look() -> None:
        # Every file is decoded once, before anything is computed; of a run that goes on it was.
        tables.append(read(decode=skip_bad or held is None))

    ranks.agree(look)
    rows = rows_of(
        tables[0] if tables else read(decode=skip_bad),
        labels=labels,
        separator=separator,
        percent_data=percent_data,
        seed=seed,
        allow_leaks=allow_leaks,
    )
    K, several = len(rows.classes), rows.labels == "several"
    settings = settings_for(recipe, classes=K, several=several, asked=asked)
    views_at_end = None if settings.tta in (None, "none") else tta_views(str(settings.tta), seed=seed)
    started = network_for(
        encoder,
        weights=weights,
        card=card,
        pool=pool,
        image_size=image_size,
        classes=K,
        drop_path=settings.drop_path,
        drop_path_if_possible=drop_path is None,
        freeze=freeze,
        lora=lora,
        seed=seed,
    )
    on = pick_device(ranks.device(device))
    plan = plan_for(settings, len(rows.train), precision=choose(precision, on), seed=seed)  # type: ignore[arg-type]
    at_once = micro_batch_size or micro_batch_for(started.network.head.in_features, on)
    passes = passes_of(plan, world=ranks.world, at_once=at_once)
    side = started.preprocess.crop
    views = TrainViews.published(side) if recipe == "published" else TrainViews.default(side)
    teaching = teaching_of(rows, settings, prior_correction=prior_correction)
    mix = Mix(mixup=settings.mixup, cutmix=settings.cutmix)
    targets = teaching.objective.targets(rows.truth[rows.train] if several else rows.codes[rows.train])
    learner = Classifying(
        rows.table.select(rows.train),
        targets,
        views,
        teaching.objective,
        mix,
        started.preprocess,
        seed=seed,
        device=on,
        workers=workers,
        row_weights=teaching.row_weights,
    )
    validation = Validation(rows, started.preprocess, shift=teaching.shift, seed=seed, workers=workers)
    score, chosen_in_words = chosen_by(
        settings.monitor, rows.classes, validation.missing(), several=several, asked=monitor is not None
    )
    selection = Selection(score, patience)
    training = {
        "recipe": recipe,
        "probe": "fine-tuned encoder, linear head",
        "encoder": started.record.name,
        "epochs": plan.epochs,
        "images a step": plan.batch,
        "learning rate": plan.rate,
        "layer decay": settings.layer_decay,
        "head begins": settings.head,
        "frozen blocks": freeze,
        "LoRA rank": lora,
        "class sampling": settings.sampler,
        "class weight": settings.class_weight,
        "epoch chosen by": f"{score} of the validation rows",
    }
    words = [
        *rows.words,
        *started.words,
        f"{started.trainable:,} numbers learn",
        *teaching.words,
        *chosen_in_words,
    ]
    run = FineTuningCard(
        provenance=Provenance.now(),
        asked=asked,
        plan=plan.as_dict(),
        recipe=recipe,
        rows=rows.record(),
        encoder=started.record.model_dump(mode="json"),
        network={
            "parameters that learn": started.trainable,
            "layers": started.layers.told,
            "pool": started.record.pool,
            "frozen blocks": freeze,
            "LoRA rank": lora,
            "drop path": settings.drop_path,
            "layer decay": settings.layer_decay,
        },
        recipe_settings=settings.decisive() | {"prior_correction": prior_correction},
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
    groups = decay_groups_by_layer(started.network, decay=plan.decay, layer_decay=settings.layer_decay)
    started.network.to(on)
    watching = Watching(
        folder,
        started,
        rows,
        validation,
        selection,
        training=training,
        shift=teaching.shift,
        dtype=_DTYPES.get(plan.precision),
        name=name,
        board=tensorboard and ranks.lead,
    )
    hold: list[Hold] = []

    def set_up() -> None:
        begin(folder, run, held)
        hold.append(Hold(folder, "a fine-tuning run"))
        draw_sheet(
            folder / SHEET_NAME,
            learner.table,
            targets,
            views,
            classes=rows.classes,
            preprocess=started.preprocess,
            mix=mix,
            link=teaching.objective.link,
            seed=seed,
        )
        if progress:
            for line in [*words, plan_in_words(plan, processes=ranks.world, passes=passes)]:
                say(line)
            say(f"what the network sees: {folder / SHEET_NAME}")

    ranks.agree(set_up)
    ending = Ending(
        method=method_of(rows, training, percent_data=percent_data, seed=seed),
        temperature=calibrate == "temperature",
        tta=views_at_end,
        draws=draws,
        seed=seed,
        device=str(on),
        batch_size=None,
        workers=workers,
        progress=progress,
    )
    try:
        if settings.head == "probe":
            begin_as_probe(
                started.network,
                rows,
                started.preprocess,
                views,
                folder=folder,
                class_weight=teaching.class_weight,
                seed=seed,
                workers=workers,
                ranks=ranks,
                progress=progress,
            )
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
            what="fine-tuning",
            progress=progress,
        )
        watching.close()
        ends = finish(folder, run, done, watching, rows, ending, ranks)
    except KeyboardInterrupt:
        if ranks.lead and (folder / JOURNAL_NAME).exists():
            watching.after_lines()  # the curves of what there is so far
        raise
    finally:
        watching.close()
        for one in hold:
            one.release()
    return Finetuned(folder, ends)


_NOT_ASKED = {
    *("out", "overwrite", "progress", "ranks", "device", "workers", "micro_batch_size"),
    *("checkpoint_minutes", "sweep", "repeats"),
}
