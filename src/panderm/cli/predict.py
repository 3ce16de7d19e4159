"""The verb that predicts new images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from panderm.cli import options as opt
from panderm.cli.frame import verb
from panderm.errors import plural, some

if TYPE_CHECKING:
    from panderm.classifying.predicted import Predicted


@verb
def predict(
    model: Annotated[
        Path,
        Argument(
            help="X.pred of panderm probe, the folder of a fine-tuning run, or a classifier's file.",
            show_default=False,
        ),
    ],
    sources: Annotated[
        list[Path],
        Argument(
            help="Folders (with all below them), image files, or a CSV of names.",
            show_default=False,
            metavar="IMAGES...",
        ),
    ],
    out: Annotated[Path, Option(help="CSV to write; its card lies beside it.", show_default=False)],
    images: opt.Images = None,
    image_column: opt.ImageColumn = "image",
    weights: opt.Weights = None,
    card: opt.CardFile = None,
    at: Annotated[
        str | None,
        Option(
            help="Operating point of the decision: sensitivity=0.95, specificity=0.9, youden, cost=20, "
            "threshold=0.3; default: the first, chosen on the validation rows kept with the model.",
            show_default=False,
        ),
    ] = None,
    positive: Annotated[
        list[str] | None,
        Option(
            help="Class that counts as positive, several times; or malignant, by the diagnosis map. "
            "Default: the second of two.",
            show_default=False,
        ),
    ] = None,
    coverage: Annotated[
        float, Option(help="Share of images whose conformal set is to hold the truth.")
    ] = 0.9,
    by_class: Annotated[
        bool, Option("--by-class", help="Sets that cover each class, by its own validation rows.")
    ] = False,
    tta: Annotated[
        Literal["2", "4", "8", "published"] | None,
        Option(
            help="Mean over so many views: flips and right-angle turns, or the five published random ones.",
            show_default=False,
        ),
    ] = None,
    skip_bad: Annotated[
        bool, Option("--skip-bad", help="Leave out images that cannot be read, and say so.")
    ] = False,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "int8"] | None,
        Option(help="Default: as the probe's embeddings were made; else fp32.", show_default=False),
    ] = None,
    engine: Annotated[
        Literal["torch", "openvino"] | None,
        Option(help="Default: as the probe's embeddings were made; else torch.", show_default=False),
    ] = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = None,
    workers: opt.DecodeWorkers = None,
    exact: Annotated[
        bool | None,
        Option(
            "--exact",
            help="Decode every image as the reference does; default: as the probe's embeddings were made.",
            show_default=False,
        ),
    ] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Predict new images: probabilities, a decision and a set for each; run again after a stop, it goes on.

    Example: panderm predict probe.pred new_images/ --out new.csv
    """
    from panderm.embeddings.making.ranks import require_alone

    require_alone("predict", hush=True)
    from panderm.classifying.predict import predict
    from panderm.classifying.predicted import card_path

    made = predict(
        model,
        sources,
        out,
        images=images,
        image_column=image_column,
        weights=weights,
        card=card,
        at=at,
        positive=positive,
        coverage=coverage,
        by_class=by_class,
        tta=tta,
        skip_bad=skip_bad,
        max_megapixels=max_megapixels,
        precision=precision,
        engine=engine,
        device=device,
        batch_size=batch_size,
        workers=workers,
        exact=exact,
        overwrite=overwrite,
        progress=not quiet,
    )
    if not as_json:
        for line in _in_words(made, out, card_path(out)):
            typer.echo(line)
    sets, decision = made.sets(), made.decision()
    return {
        "csv": str(out),
        "card": str(card_path(out)),
        "rows": len(made),
        "classes": list(made.classes),
        "predicted": made.counts(),
        "positive": None if decision is None or made.card.link == "sigmoid" else _positives(made),
        "decision": [one.model_dump(mode="json") for one in made.card.decision],
        "sets": None if made.card.sets is None else made.card.sets.model_dump(mode="json"),
        "set_sizes": None if sets is None else _sizes(made),
        "left_out": made.card.calibration.left_out,
        "tta": made.card.tta,
        "images_per_second": made.card.images_per_second,
        "resumed": made.resumed,
        "skipped": [one.model_dump() for one in made.card.skipped],
        "notes": list(made.card.notes),
        "use": made.card.use,
    }


def _in_words(made: Predicted, out: Path, card: Path) -> list[str]:
    told, n = made.card, len(made)
    lines = [f"{out}: {plural(n, 'image')} by {told.encoder.name} and the head of {told.model}"]
    if told.encoder.random:
        lines.append("the encoder's weights are random numbers: what it says of an image means nothing")
    for name, count in made.counts().items():
        lines.append(f"  {name or '(no label)'}: {count:,} ({count / n:.1%})")
    lines += _decision_in_words(made)
    lines += _sets_in_words(made)
    if told.tta:
        lines.append(f"views: {told.tta}")
    if told.skipped:
        names = some([f"{one.image} ({one.reason})" for one in told.skipped], 3)
        lines.append(f"left out: {plural(len(told.skipped), 'image')}, listed in {card}: {names}")
    rate = f"{told.images_per_second:.3g} images/s" if told.images_per_second else "all were there"
    kept = f"; {made.resumed:,} were there from a run that was stopped" if made.resumed else ""
    lines.append(f"rate: {rate}{kept}")
    lines += [f"note: {note}" for note in told.notes]
    return [*lines, told.use]


def _decision_in_words(made: Predicted) -> list[str]:
    told = made.card
    why = told.calibration.left_out.get("thresholds")
    if not told.decision:
        return [f"no decision: {why}"] if why else []
    lines = []
    for one in told.decision:
        named = " + ".join(one.positive)
        if one.threshold is None:
            lines.append(f"no decision for {named}: {one.reason}")
            continue
        chosen = "given"
        if one.sensitivity is not None and one.specificity is not None:
            chosen = (
                f"{one.words}, chosen on {one.positives:,} positive and {one.negatives:,} negative of "
                f"{told.calibration.of}: sensitivity {one.sensitivity:.3f}, specificity "
                f"{one.specificity:.3f} there"
            )
        lines.append(
            f"decision: positive is {named} at a probability of {one.threshold:.4g} or more ({chosen})"
        )
    if told.link == "softmax" and made.decision() is not None:
        positives = _positives(made)
        lines.append(f"  positive: {positives:,} of {len(made):,} ({positives / len(made):.1%})")
    return lines


def _sets_in_words(made: Predicted) -> list[str]:
    told = made.card
    if told.sets is None:
        why = told.calibration.left_out.get("sets")
        return [f"no sets: {why}"] if why else []
    by = "a limit for each class" if told.sets.by == "class" else "one limit"
    sizes = ", ".join(
        f"{count:,} of {plural(size, 'class', 'classes')}" for size, count in _sizes(made).items()
    )
    lines = [
        f"sets asked to hold the truth of {told.sets.coverage:.0%} of images ({by}, by "
        f"{told.calibration.of}): {sizes}"
    ]
    free = [name for name, limit in zip(made.classes, told.sets.limits, strict=True) if limit is None]
    if free:
        lines.append(f"  in every set, for want of validation rows: {some(free, 12)}")
    return lines


def _positives(made: Predicted) -> int:
    decision = made.decision()
    return 0 if decision is None else int((decision == "positive").sum())


def _sizes(made: Predicted) -> dict[int, int]:
    sets = made.sets()
    if sets is None:
        return {}
    sizes = sets.sum(axis=1).tolist()
    return {size: sizes.count(size) for size in sorted(set(sizes))}
