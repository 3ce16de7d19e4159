"""The page of a run: how its masks fare at native size, the worst of them seen, and how it learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from panderm.errors import plural
from panderm.finetuning.curves import loss_curve, score_curve
from panderm.finetuning.page import folded_epochs, learned_in_words, plan_in_pairs, samples_of
from panderm.predictions.masks import MaskPredictions
from panderm.pretraining.curves import step_curve
from panderm.pretraining.followed import Followed, follow
from panderm.provenance import Provenance
from panderm.report.masks_sections import HEADLINES, mask_banners, mask_score_rows, mask_sections
from panderm.report.masks_words import LEVEL_WORDS
from panderm.report.page import Banner, pour
from panderm.report.section import Drawing, Rows, Section, told
from panderm.report.words import moment, pairs
from panderm.scores.masks import MaskScores
from panderm.segmenting.learning.run_card import PAGE_NAME, SegmentationRunCard
from panderm.segmenting.learning.sheet import SHEET_NAME
from panderm.storage import write_text

_CURVES = ("jaccard", "dice")
_TABLE = ("jaccard", "dice", "thresholded_jaccard", "sensitivity", "specificity", "loss")
_VALUES = ("dice", "jaccard", "thresholded_jaccard", "boundary_f", "hd95", "pooled_dice")
_SAMPLES = (
    "Training images with the outlines of their masks: as they are, as they are scored, and as the network "
    "saw them."
)


def write_page(
    folder: Path,
    card: SegmentationRunCard,
    masks: MaskPredictions,
    scores: Mapping[str, MaskScores],
    images: Mapping[str, Path],
) -> Path:
    """Write ``report.html`` of a run, and return its path.

    Args:
        folder: of the run.
        card: of the run, complete.
        masks: of the rows that are scored.
        scores: by part: of ``test``, where there are such rows, and of ``val``.
        images: the file of each image, by the name that its mask goes by.
    """
    result = card.result or {}
    part = str(result["scored"])
    own = scores[part]
    title = _title(card)
    where = f"the {part} images, by the weights of epoch {result['best']}, at each image’s native size"
    sections = [
        *mask_sections(masks, own, images=images, where=where),
        *([_of_val(scores["val"])] if part != "val" else []),
        *learned(folder, card),
    ]
    html = pour(
        "segmenting.html",
        eyebrow="Segmentation",
        title=title,
        lead=_lead(own, part),
        banners=[*_banners(card, part), *mask_banners(own)],
        headlines=mask_score_rows(own, HEADLINES),
        level=LEVEL_WORDS,
        sections=sections,
        command=card.provenance.command,
        facts_of_run=[
            ("table", str(card.rows["table"])),
            ("images", ", ".join(f"{card.rows[name]:,} {name}" for name in ("train", "val", "test"))),
            ("encoder", "none" if card.encoder is None else str(card.encoder["name"])),
            ("sha256 of its weights", str((card.encoder or {}).get("weights_sha256") or "none")),
            ("sha256 of the segmenter", str(result["files"]["segmenter.safetensors"])),
            ("identity of the counts", own.predictions),
        ],
        created=moment(Provenance.now().created),
        version=Provenance.now().panderm,
    ).html
    write_text(folder / PAGE_NAME, html, overwrite=True)
    return folder / PAGE_NAME


def _title(card: SegmentationRunCard) -> str:
    decoder = str(card.network["decoder"])
    return "U-Net" if card.encoder is None else f"{card.encoder['name']}, {decoder} decoder"


def _lead(scores: MaskScores, part: str) -> str:
    of = "" if scores.unit == "image" else f" of {plural(scores.clusters, scores.unit)}"
    return f"Trained to outline lesions; {plural(scores.n, f'{part} image')}{of}, at native size."


def _banners(card: SegmentationRunCard, part: str) -> list[Banner]:
    found = []
    if (card.encoder or {}).get("random"):
        text = "The encoder’s weights were drawn at random: no trained encoder is to be judged by them."
        found.append(Banner("stop", "Random encoder", text))
    if part == "val":
        text = "There are no test rows: these scores are of the rows that chose the epoch, and look too good."
        found.append(Banner("care", "Scored on the validation rows", text))
    return found


def _of_val(scores: MaskScores) -> Section:
    held = {**scores.per_image, **scores.pooled}
    rows = [
        (row.title, told(held[name]))
        for name, row in zip(_VALUES, mask_score_rows(scores, _VALUES), strict=True)
    ]
    return Section(
        name="val",
        title="On the validation images",
        intro=[
            f"The same scores of {plural(scores.n, 'validation image')}, at native size. These chose the "
            "epoch: they look better here than on new images."
        ],
        tables=[Rows(f"Scores with {LEVEL_WORDS} intervals", ("score", "value"), rows)],
    )


def learned(folder: Path, card: SegmentationRunCard) -> list[Section]:
    """Return the sections that tell how a run learned: curves, epochs, settings, what it saw."""
    run = follow(folder)
    looks = [dict(look) for look in run.looks if "val" in look]
    monitor = str(card.selection["score"])
    best = looks[-1]["best"] if looks else None
    who = _title(card) if card.encoder is None or not card.network["frozen encoder"] else _frozen(card)
    intro = learned_in_words(run, card, looks, monitor, best, who=who)
    if looks:
        side = looks[-1]["val"]["side"]
        intro.append(
            f"After each epoch masks were compared at the network’s own {side} × {side} pixels, which is "
            "enough to choose by; the scores above are at native size, and differ a little."
        )
    return [
        Section(
            name="learning",
            title="Learning",
            intro=intro,
            drawings=[
                *_curves(run, looks, monitor, best),
                *samples_of(folder / SHEET_NAME, _SAMPLES),
            ],
            folded=folded_epochs(looks, best, _TABLE),
        ),
        Section(
            name="training",
            title="How it was trained",
            intro=[],
            tables=[
                Rows(
                    "Recipe",
                    ("setting", "value"),
                    [
                        ("recipe", card.recipe),
                        *plan_in_pairs(card.plan),
                        *pairs(card.recipe_settings),
                        *pairs(card.views),
                    ],
                ),
                Rows("Network", ("part", "value"), pairs(card.network)),
            ],
        ),
    ]


def _frozen(card: SegmentationRunCard) -> str:
    assert card.encoder is not None
    return f"The {card.network['decoder']} decoder on {card.encoder['name']}, which stayed as it was,"


def _curves(run: Followed, looks: Sequence[dict[str, Any]], monitor: str, best: int | None) -> list[Drawing]:
    scores = [monitor, *(score for score in _CURVES if score != monitor)]
    found = [
        loss_curve(run, looks, best, label="loss", seen="augmented"),
        *(score_curve(looks, score, best) for score in scores if score != "loss"),
        step_curve(
            run,
            run.numbers["rate"],
            name="rate",
            title="Learning rate",
            label="learning rate",
            caption="Of the decoder.",
        ),
        step_curve(
            run,
            run.numbers["norm"],
            name="norm",
            title="Gradient norm",
            label="norm",
            caption="Of all gradients together, before clipping.",
        ),
    ]
    return [drawn for drawn in found if drawn]
