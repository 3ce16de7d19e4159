"""What fewer bits and another engine do to a probe: drift and scores of real images, paired, as embed runs.

    python benchmarks/engines.py ham_clean.csv --images images/ --encoder timm:vit_small_patch14_dinov2 \
        --weights dinov2_vits14.safetensors --image-size 224 --group lesion_id --test val [--rows 1500]

A seeded part of the training rows and all rows of the other splits (or a part of those too, --held-out) are
embedded by PyTorch in float32, and in every other way: bfloat16, OpenVINO in float32, bfloat16 and 8 bits. A
tuned probe is fitted and scored on each, and the probe of float32 is scored on each. Rates are of runs one
after another, which another program may disturb: benchmarks/encode.py compares speed.
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

import panderm
from panderm.errors import PandermError, PandermWarning
from panderm.predictions import Predictions
from panderm.scores import Score, differences
from panderm.statistics.similarity import centred_cosines, cosines

WAYS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "OpenVINO fp32": {"engine": "openvino"},
    "OpenVINO bf16": {"engine": "openvino", "precision": "bf16"},
    "OpenVINO int8": {"engine": "openvino", "precision": "int8"},
}


def show(score: Score, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if score.value is None or score.low is None:
        return "–"
    return f"{score.value:{sign}.3f} ({score.low:{sign}.3f} to {score.high:{sign}.3f})"


def chosen(table: panderm.Table, args: argparse.Namespace) -> panderm.Table:
    rng, kept = np.random.default_rng(args.seed), []
    for split in dict.fromkeys(table.split):
        rows = rng.permutation(np.flatnonzero(table.split == split))
        kept.append(rows[: args.rows if split == "train" else args.held_out])
    # In another order than the table's: the first images, which calibrate, are of all splits and classes.
    return table.select(rng.permutation(np.concatenate(kept)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    for name in ("images", "encoder", "weights", "label", "group", "patient"):
        parser.add_argument(f"--{name}")
    for name, value in (("image-size", 224), ("rows", 1500), ("held-out", 10**9), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--test", default="test")
    parser.add_argument("--skip", nargs="+", default=[], choices=list(WAYS)[1:])
    args = parser.parse_args()
    whole = panderm.read_table(
        args.table, images=args.images, label=args.label, group=args.group, patient=args.patient
    )
    table = chosen(whole, args)
    made: dict[str, panderm.Embeddings] = {}
    for name, options in WAYS.items():
        if name in args.skip:
            continue
        try:
            eye = panderm.load_encoder(
                args.encoder, weights=args.weights, image_size=args.image_size, device="cpu", **options
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PandermWarning)  # the drift is told below
                made[name] = eye.embed(table)
        except PandermError as error:
            if name == "fp32":
                raise SystemExit(str(error)) from None
            print(f"{name}: left out, {error!s:.150}")
    first = made["fp32"]
    test = np.asarray(first.rows.split == args.test)
    print(
        f"{first.card.encoder.name}, {args.image_size} pixels; {whole.card.name}: {len(table):,} images\n"
        f"{'':14} {'images/s':>9} {'told drift':>10} {'smallest cosine':>16} {'centred: smallest, mean':>24}"
    )
    for name, emb in made.items():
        plain, centred = cosines(first.vectors, emb.vectors), centred_cosines(first.vectors, emb.vectors)
        told = "–" if emb.card.drift is None else f"{emb.card.drift:.4f}"
        print(
            f"{name:14} {emb.card.images_per_second or 0:9.1f} {told:>10} {plain.min():16.5f}"
            f" {centred.min():16.4f} {centred.mean():7.4f}"
        )
    probes = {name: panderm.probe(emb, test=args.test) for name, emb in made.items()}
    exact = probes["fp32"]
    assert exact.probe is not None
    for title, others in (
        ("probe fitted and scored on each", probes),
        (
            "probe fitted on fp32, scored on each",
            {name: scored_on(exact, emb.vectors[test]) for name, emb in made.items()},
        ),
    ):
        apart = [{}, *differences([exact, *(one for name, one in others.items() if name != "fp32")])]
        print(
            f"\n{title:36} {'balanced accuracy':>24} {'minus fp32':>26} {'AUROC, minus fp32':>26} same class"
        )
        for (name, predictions), less in zip(others.items(), apart, strict=True):
            scores = panderm.evaluate(predictions).scores
            same = int((predictions.predicted_codes() == exact.predicted_codes()).sum())
            names = ("balanced_accuracy", next(score for score in scores if "auroc" in score))
            cells = [show(less[score], signed=True) if less else "–" for score in names]
            own = show(scores[names[0]])
            print(f"{name:36} {own:>24} {cells[0]:>26} {cells[1]:>26} {same:>5} of {len(exact)}")
    print("95 % intervals, paired: the same bootstrap draws of the scored images for both")


def scored_on(exact: Predictions, vectors: npt.NDArray[np.float32]) -> Predictions:
    assert exact.probe is not None
    scored: Predictions = dataclasses.replace(exact, probabilities=exact.probe.probabilities(vectors))
    return scored


if __name__ == "__main__":
    main()
