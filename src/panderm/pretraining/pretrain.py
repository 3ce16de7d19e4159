"""One arrow: from images without labels, and a frozen teacher, to an encoder of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from panderm.data.table import read_table
from panderm.embeddings.lock import Hold
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import UsageError
from panderm.models.device import pick_device
from panderm.models.precision import PrecisionChoice, choose
from panderm.pretraining.aligning import Aligning
from panderm.pretraining.announced import checkpoints_in_words, networks_in_words
from panderm.pretraining.begun import begun_from, student_for, student_record
from panderm.pretraining.finished import Pretrained, finish
from panderm.pretraining.images import images_of
from panderm.pretraining.masks import MaskDrawer, MaskKind, masked_patches
from panderm.pretraining.objective import TokenWeights
from panderm.pretraining.online_probe import OnlineProbe
from panderm.pretraining.recipe import (
    CLIP,
    DECAY,
    MIN_LR,
    micro_batch_for,
    plan_for,
    plan_in_words,
)
from panderm.pretraining.remembered import TARGETS_NAME, filled
from panderm.pretraining.run_card import (
    EXCLUDED_NAME,
    RunCard,
    as_json,
    begin,
    held_run,
    require_room,
)
from panderm.pretraining.student import StudentName, find_student
from panderm.pretraining.teacher import Teacher, Tokens
from panderm.pretraining.views import TwoViews
from panderm.pretraining.watching import Watching
from panderm.pretraining.weights_file import student_preprocess
from panderm.progress import say
from panderm.provenance import Provenance
from panderm.storage import require_local
from panderm.training.long.journal import JOURNAL_NAME
from panderm.training.long.loop import learn
from panderm.training.long.plan import passes_of
from panderm.training.long.together import Sharing, require_several

_LOOKS = 20  # over a run, where their number was not asked for


def pretrain(
    source: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    student: StudentName = "small",
    teacher: str | None = None,
    teacher_weights: Path | str | None = None,
    teacher_card: Path | str | None = None,
    teacher_tokens: Tokens | None = None,
    teacher_precision: PrecisionChoice = "auto",
    init: Path | str | None = None,
    images: Path | str | None = None,
    image_column: str = "image",
    split: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    exclude: Sequence[Path | str] | None = None,
    exclude_images: Path | str | None = None,
    exclude_split: str | None = None,
    exclude_patients: Path | str | None = None,
    no_near: bool = False,
    epochs: int = 100,
    batch_size: int | None = None,
    micro_batch_size: int | None = None,
    lr: float | None = None,
    min_lr: float = MIN_LR,
    warmup_epochs: float | None = None,
    weight_decay: float = DECAY,
    clip_grad: float = CLIP,
    drop_path: float | None = None,
    mask: MaskKind = "block",
    mask_ratio: float | None = None,
    cls_weight: float = 1.0,
    visible_weight: float = 1.0,
    masked_weight: float = 1.0,
    crop_scale: float = 0.4,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    turn: float = 0.0,
    color_jitter: float = 0.0,
    hue: float = 0.0,
    student_jitter: bool = False,
    views: int | None = None,
    targets: Path | str | None = None,
    probe: Path | str | None = None,
    probe_images: Path | str | None = None,
    probe_label: str | None = None,
    probe_every: int | None = None,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    device: str = "auto",
    workers: int | None = None,
    grad_checkpointing: bool = False,
    fsdp: bool = False,
    checkpoint_minutes: float = 10.0,
    save_every: int = 0,
    tensorboard: bool = False,
    name: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> Pretrained:
    """Pretrain an encoder on images without labels, as PanDerm was; run again after a stop, it goes on.

    The student sees the visible patches of a random crop; a regressor fills in the masked ones; both are to
    point the way of the tokens that a frozen teacher gives for the whole crop (CAE v2, Zhang X. et al., TMLR
    2023; PanDerm, Yan S. et al., Nat. Med. 2025).

    Args:
        source: a folder, a CSV or Parquet table, a list, WebDataset shards, or several of them.
        out: folder of the run.
        student: ``tiny``, ``small``, ``base`` or ``large``, of patches of 16 pixels.
        teacher: any encoder with patch tokens, as :func:`panderm.load_encoder` names it.
        teacher_weights: its file.
        teacher_card: your own card of it.
        teacher_tokens: ``projected`` (CLIP's towers) or ``raw``; by default projected where there is a
            projection.
        teacher_precision: what it computes in.
        init: weights the student begins from: a published or own pretraining file, an encoder, a plain ViT.
        images: folder of a table's images.
        image_column: its column with the file.
        split: which rows of a table; by default all.
        split_column: its column with the split.
        patient: its column with the patient.
        exclude: tables, lists and folders of images that must not be learned from.
        exclude_images: folder of their images.
        exclude_split: which of their rows; by default all.
        exclude_patients: text file of patients who must not be learned from, one a line.
        no_near: do not look for near-duplicates of excluded images.
        epochs: passes over the images.
        batch_size: images a step, over all processes; by default 1,920, fewer of fewer than 96,000 images.
        micro_batch_size: of them, in one pass of one process; the gradients of all passes are added up.
        lr: learning rate; by default 1.5e-3 at 1,920 images, by the square root of the batch.
        min_lr: where it falls to.
        warmup_epochs: in which it rises; by default 4 % of the epochs.
        weight_decay: of AdamW; biases, norms, tokens and positions have none.
        clip_grad: greatest norm of the gradient.
        drop_path: stochastic depth; by default the student's.
        mask: ``block`` or ``random``.
        mask_ratio: share of masked patches; by default 0.15 of tiny, 0.25 of small, else 0.5.
        cls_weight: of the class token in the loss.
        visible_weight: of a visible patch.
        masked_weight: of a masked patch.
        crop_scale: least share of an image's area in a crop.
        flip: probability of a mirrored crop.
        vertical_flip: likewise, top to bottom.
        turn: probability of a turn by a multiple of 90 degrees.
        color_jitter: brightness, contrast and saturation, each by a factor within 1 ± this.
        hue: shift of the hue, at most 0.5.
        student_jitter: only the student sees these colours.
        views: fixed views an image, whose teacher's tokens are kept on disk; by default each epoch draws
            new views, and the teacher looks at them.
        targets: folder of these tokens, which several runs may share; by default the run's own.
        probe: labelled table for a probe now and then; its rows of test are not looked at.
        probe_images: folder of its images.
        probe_label: its column with the class.
        probe_every: epochs between two looks at the student; by default about 20 looks a run.
        precision: of the student; ``auto`` takes bfloat16 where the hardware has it.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        workers: threads that decode.
        grad_checkpointing: compute inner values again instead of keeping them: less memory, a third slower.
        fsdp: share weights and optimiser out among the processes.
        checkpoint_minutes: between two checkpoints; 0: after every step.
        save_every: epochs between two encoders that are kept; 0: only the last.
        tensorboard: write its files too (an extra).
        name: of the encoder, on its card; by default that of the folder.
        seed: of weights, order, crops and masks.
        overwrite: begin again where a run exists.
        progress: say what is done.
        ranks: the processes of a launcher.

    Returns:
        The finished run.

    Raises:
        UsageError: an option that cannot be, or a teacher without this grid of patches.
        ParentsError: the run in ``out`` was begun with other images or settings.
        DataError: a loss that is no number, or no image that can be read.
        KeyboardInterrupt: stopped; a checkpoint was written.

    Example:
        >>> run = panderm.pretrain(
        ...     "images/", "run", student="tiny", teacher="timm:vit_small_patch14_dinov2"
        ... )  # doctest: +SKIP
        >>> encoder = panderm.load_encoder(run.encoder)  # doctest: +SKIP
    """
    given = dict(locals())
    ranks = ranks or Ranks()
    folder = Path(out)
    require_local(folder)
    if teacher is None and teacher_weights is None:
        raise UsageError(
            "a teacher must be named.",
            hint="--teacher timm:vit_small_patch14_dinov2 --teacher-weights dinov2_vits14.safetensors",
        )
    sharing: Sharing = "fsdp" if fsdp else "ddp"
    require_several(sharing, ranks.world)
    asked = {key: _plain(value) for key, value in given.items() if key not in _NOT_ASKED}
    held_record = ranks.agree(lambda: _as_held(held_run(folder, overwrite=overwrite)))
    held = None if held_record is None else RunCard.model_validate(held_record)
    if require_room(held, asked, folder):
        assert held is not None
        return Pretrained(folder, held, now=False)
    ready = images_of(
        source,
        ranks,
        images=images,
        image_column=image_column,
        split=split,
        split_column=split_column,
        patient=patient,
        exclude=exclude or (),
        exclude_images=exclude_images,
        exclude_split=exclude_split,
        exclude_patients=exclude_patients,
        near=not no_near,
        known=_known(folder, held, asked),
        workers=workers,
        progress=progress and ranks.lead,
    )
    on = pick_device(ranks.device(device))
    form = find_student(student)
    plan = plan_for(
        len(ready.source),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        min_lr=min_lr,
        warmup_epochs=warmup_epochs,
        weight_decay=weight_decay,
        clip_grad=clip_grad,
        precision=choose(precision, on),  # type: ignore[arg-type]
        seed=seed,
    )
    at_once = micro_batch_size or micro_batch_for(form, on)
    passes = passes_of(plan, world=ranks.world, at_once=at_once)
    looks = probe_every or max(1, round(epochs / _LOOKS))
    taught = Teacher.load(
        teacher,
        weights=teacher_weights,
        card=teacher_card,
        tokens=teacher_tokens,
        device=str(on),
        precision=teacher_precision,
    )
    model = student_for(form, taught, init, drop_path, seed)
    ratio = form.mask_ratio if mask_ratio is None else mask_ratio
    patches = taught.grid[0] * taught.grid[1]
    masks = MaskDrawer(taught.grid, masked_patches(ratio, patches), mask)
    if not masks.masked:
        model.freeze_regressor()
    seen = TwoViews(
        model.image_size,
        taught.image_size,
        scale=(crop_scale, 1.0),
        flip=flip,
        vertical_flip=vertical_flip,
        turn=turn,
        jitter=color_jitter,
        hue=hue,
        student_only=student_jitter,
    )
    weights = TokenWeights(cls_weight, visible_weight, masked_weight)
    learner = Aligning(
        ready.source,
        seen,
        masks,
        taught,
        weights,
        seed=seed,
        device=on,
        workers=workers,
        fixed_views=views,
    )
    begun = None
    if init is not None:
        file, before = Path(init).expanduser(), None if held is None else held.init
        begun = ranks.agree(lambda: begun_from(file, before, folder, model, learner, shown=progress))
    model.checkpointed = grad_checkpointing
    model.to(on)
    watched = None
    if probe is not None and ranks.lead:
        table = read_table(probe, images=probe_images, label=probe_label, decode=False, progress=progress)
        watched = OnlineProbe(table, student_preprocess(), seed=seed, workers=workers, progress=progress)
    card = RunCard(
        provenance=Provenance.now(),
        asked=asked,
        source=dict(ready.source.record),
        excluded=ready.record,
        student=student_record(model),
        teacher=taught.record,
        init=begun,
        plan=plan.as_dict(),
        masks={"kind": mask, "masked": masks.masked, "grid": list(masks.grid)},
        views={**asdict(seen), "fixed": views},
        weights=asdict(weights),
        probe=None if watched is None else watched.record,
        settings={
            "device": str(on),
            "processes": ranks.world,
            "sharing": sharing if ranks.world > 1 else None,
            "micro_batch_size": at_once,
            "passes": passes,
            "grad_checkpointing": grad_checkpointing,
            "checkpoint_minutes": checkpoint_minutes,
        },
    )
    words = [
        *ready.words,
        *networks_in_words(model, taught, begun),
        plan_in_words(plan, lr_asked=lr is not None, processes=ranks.world, passes=passes),
        checkpoints_in_words(model, folder, checkpoint_minutes),
    ]
    hold: list[Hold] = []

    def set_up() -> None:
        begin(folder, card, held)
        hold.append(Hold(folder, "a pretraining run"))
        if ready.excluded is not None:
            ready.excluded.write(folder / EXCLUDED_NAME, overwrite=True)
        if progress:
            for line in words:
                say(line)

    watching = Watching(
        folder,
        learner,
        epochs=epochs,
        every=looks,
        save_every=save_every,
        name=name or folder.resolve().name,
        probe=watched,
        board=tensorboard and ranks.lead,
    )
    ranks.agree(set_up)
    try:
        if views is not None:
            where = Path(targets) if targets is not None else folder / TARGETS_NAME
            learner.cache = filled(where, learner, ranks, shown=progress)
        done = learn(
            learner,
            model,
            plan,
            folder,
            record=as_json(card.decided()),
            device=on,
            at_once=at_once,
            ranks=ranks,
            sharing=sharing,
            checkpoint_minutes=checkpoint_minutes,
            watch=watching,
            what=f"pretraining {student}",
            progress=progress,
        )
        ends = ranks.agree(
            lambda: _as_held(finish(folder, card, done, watching, name or folder.resolve().name))
        )
    except KeyboardInterrupt:
        if ranks.lead and (folder / JOURNAL_NAME).exists():
            watching.finish()  # what there is so far
        raise
    finally:
        for one in hold:
            one.release()
    return Pretrained(folder, RunCard.model_validate(ends))


_NOT_ASKED = {
    *("out", "overwrite", "progress", "ranks", "device", "workers", "micro_batch_size", "fsdp", "targets"),
    *("grad_checkpointing", "checkpoint_minutes"),
}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _as_held(card: RunCard | None) -> dict[str, Any] | None:
    return None if card is None else card.model_dump(mode="json")


def _known(folder: Path, held: RunCard | None, asked: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """Return what an earlier start left out, where it was asked for in the same words."""
    path = folder / EXCLUDED_NAME
    if held is None or held.excluded is None or not path.is_file():
        return None
    what = {"no_near", "source", "images", "image_column", "split", "split_column", "patient"}
    what |= {key for key in asked if key.startswith("exclude")}
    same = all(held.asked.get(key) == asked[key] for key in what)
    return (path, held.excluded) if same else None
