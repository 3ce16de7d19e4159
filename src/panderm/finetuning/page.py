"""The page of a run: the report of its predictions, and how what predicts was learned."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from panderm.errors import plural
from panderm.finetuning.curves import drawings_of, title_of
from panderm.finetuning.run_card import FineTuningCard
from panderm.finetuning.sheet import SHEET_NAME
from panderm.predictions import MultiLabelPredictions, Predictions
from panderm.pretraining.followed import Followed, follow
from panderm.report import Report
from panderm.report.multi_label import MultiLabelReport
from panderm.report.section import Drawing, Folded, Rows, Section, told
from panderm.report.words import duration, pairs, units
from panderm.scores import MultiLabelScores, Score, Scores
from panderm.scores.compared import Comparison
from panderm.training.long.card import LongRunCard

_WIDE = 1400  # pixels of the sheet
_SAMPLES = (
    "Training images with their labels: as they are, as images are scored, and as the network saw them."
)
_TABLE = ("balanced_accuracy", "accuracy", "macro_recall", "auroc", "auroc_ovr", "macro_auroc", "loss")


def report_of(
    folder: Path,
    card: FineTuningCard,
    predictions: Predictions | MultiLabelPredictions,
    scores: Scores | MultiLabelScores,
    *,
    tta: Comparison | None = None,
    progress: bool = True,
) -> Report | MultiLabelReport:
    """Return the page of a run's predictions, with how the classifier was learned.

    Args:
        folder: of the run.
        card: of the run, complete.
        predictions: of the rows scored.
        scores: of these.
        tta: these predictions beside those of several views, where there are any.
        progress: show progress on standard error.
    """
    sections = learned(folder, card, tta=tta)
    if isinstance(predictions, MultiLabelPredictions):
        assert isinstance(scores, MultiLabelScores)
        return _OfLabels(predictions, scores, sections=sections, progress=progress)
    assert isinstance(scores, Scores)
    return _OfClasses(predictions, scores, sections=sections, progress=progress)


class _OfClasses(Report):
    def __init__(
        self, predictions: Predictions, scores: Scores, *, sections: Sequence[Section], progress: bool
    ) -> None:
        super().__init__(predictions, scores, progress=progress)
        self._sections = sections

    def _learned(self) -> Sequence[Section]:
        return self._sections


class _OfLabels(MultiLabelReport):
    def __init__(
        self,
        predictions: MultiLabelPredictions,
        scores: MultiLabelScores,
        *,
        sections: Sequence[Section],
        progress: bool,
    ) -> None:
        super().__init__(predictions, scores, progress=progress)
        self._sections = sections

    def _learned(self) -> Sequence[Section]:
        return self._sections


def learned(folder: Path, card: FineTuningCard, *, tta: Comparison | None = None) -> list[Section]:
    """Return the sections that tell how a run learned: curves, epochs, settings, what it saw, other views."""
    run = follow(folder)
    looks = [dict(look) for look in run.looks if "val" in look]
    monitor = str(card.selection["score"])
    best = looks[-1]["best"] if looks else None
    sections = [
        Section(
            name="learning",
            title="Learning",
            intro=learned_in_words(
                run, card, looks, monitor, best, who=f"{card.encoder['name']} and a new head"
            ),
            drawings=[*drawings_of(run, looks, monitor, best), *samples_of(folder / SHEET_NAME, _SAMPLES)],
            folded=folded_epochs(looks, best, _TABLE),
        ),
        Section(
            name="fine-tuning",
            title="How it was fine-tuned",
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
    if tta is not None:
        sections.insert(1, _of_views(tta))
    return sections


def learned_in_words(
    run: Followed,
    card: LongRunCard,
    looks: Sequence[dict[str, Any]],
    monitor: str,
    best: int | None,
    *,
    who: str,
) -> list[str]:
    """Return paragraphs: how long was learned, which epoch was kept, what it began with.

    Args:
        run: its journal.
        card: of the run, complete.
        looks: at the validation rows.
        monitor: the score that chose.
        best: the epoch that was kept.
        who: has learned, as a subject in the plural.
    """
    plan, result = card.plan, card.result or {}
    seconds = run.numbers["seconds"]
    took = float(seconds[seconds == seconds].sum())
    waited = run.numbers["waited"]
    share = float(waited[waited == waited].sum()) / took if took else 0.0
    pace = run.pace[run.pace == run.pace]
    early = " It stopped early: no better one came for so long." if result.get("stopped_early") else ""
    steps = int(run.step[-1]) if len(run.step) else 0
    speed = f" ({pace.mean():,.1f} images a second, {share:.0%} of it waiting for them)" if len(pace) else ""
    texts = [
        f"{who} learned for {len(looks)} of "
        f"{plural(plan['epochs'], 'epoch')}, {plural(steps, 'step')} of {plural(plan['batch'], 'image')}, "
        f"in {duration(took)}{speed}."
    ]
    if best is not None and looks:
        chosen = next(look for look in looks if look["epoch"] == best)
        score = _score(chosen, monitor)
        less = "lowest" if monitor == "loss" else "highest"
        texts.append(
            f"Epoch {best} was kept, the first of the {less} {title_of(monitor)} on "
            f"{plural(chosen['val']['n'], 'validation image')}: {told(score)}.{early} The best of several "
            "epochs looks better on the rows that chose it than it is: what counts are scores of other rows."
        )
    words = "; ".join(str(text) for text in card.settings.get("words", ()))
    return [*texts, f"What it began with: {words}."]


def _score(look: dict[str, Any], name: str) -> Score | None:
    held = look["val"]["scores"].get(name)
    return (
        None
        if held is None
        else Score(**{k: held.get(k) for k in ("value", "low", "high", "reason", "method")})
    )


def folded_epochs(looks: Sequence[dict[str, Any]], best: int | None, names: Sequence[str]) -> list[Folded]:
    """Return a table of scores of the validation rows after each epoch, folded; none where nobody looked."""
    if not looks:
        return []
    names = [name for name in names if name in looks[-1]["val"]["scores"]]
    lines = [
        (
            f"{look['epoch']}{' (kept)' if look['epoch'] == best else ''}",
            *(told(_score(look, name)) for name in names),
        )
        for look in looks
    ]
    table = Rows("Scores by epoch, with 95 % intervals", ("epoch", *(title_of(n) for n in names)), lines)
    return [Folded("Every epoch on the validation rows", table)]


def plan_in_pairs(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the loop was told, as rows of name and value."""
    return pairs(
        {
            "epochs": plan["epochs"],
            "images a step": plan["batch"],
            "learning rate": plan["rate"],
            "least learning rate": plan["least_rate"],
            "warm-up epochs": plan["warm_up"],
            "weight decay": plan["decay"],
            "gradient clipped at": plan["clip"] or "not clipped",
            "precision": plan["precision"],
            "moving average": plan.get("ema") or "none",
            "seed": plan["seed"],
        }
    )


def samples_of(path: Path, caption: str) -> list[Drawing]:
    """Return a run's sample sheet as a figure; nothing where there is none."""
    if not path.is_file():
        return []
    with Image.open(path) as image:
        shown = image.convert("RGB")
    if shown.width > _WIDE:
        shown = shown.resize((_WIDE, round(shown.height * _WIDE / shown.width)), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    shown.save(target, "JPEG", quality=82, optimize=True)
    data = base64.b64encode(target.getvalue()).decode()
    picture = f'<img src="data:image/jpeg;base64,{data}" alt="{caption}" style="width:100%;height:auto">'
    return [Drawing("What the network saw", caption, picture, wide=True, name="samples")]


def _of_views(tta: Comparison) -> Section:
    one, two = tta.models
    rows = [
        (
            title_of(pair.score),
            told(one.scores[pair.score]),
            told(two.scores[pair.score]),
            told(pair.difference),
            "—" if pair.p_holm is None else f"{pair.p_holm:.3f}",
        )
        for pair in tta.pairs
    ]
    return Section(
        name="views",
        title="Several views of an image",
        intro=[
            "The same images predicted from one view and from several, whose answers are averaged. "
            f"Differences are paired: of the same {plural(tta.n, 'image')}, on the same {tta.draws:,} "
            f"bootstrap draws of {units(tta.unit)}, seed {tta.seed}; p-values by {tta.permutations:,} swaps."
        ],
        tables=[
            Rows(
                "Test-time augmentation",
                ("score", "one view", "several views", "difference", "p, Holm"),
                rows,
            )
        ],
    )
