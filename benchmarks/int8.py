"""What 8-bit arithmetic does to a probe: speed, drift and balanced accuracy, side by side in one process.

    python benchmarks/int8.py ham_clean.csv --images images/ --encoder timm:vit_small_patch14_dinov2 \
        --weights dinov2_vits14.safetensors --image-size 224 --group lesion_id --test val [--rows 1500]

A seeded part of the training rows and all rows of the scored split go, batch by batch, through PyTorch in
float32 and through the exported file with --int8; the first --side-by-side of them through the fp32 file too,
and ONNX Runtime's own dynamic quantisation, which has one scale for a whole batch. A tuned probe is then
fitted and scored: on float32, on int8, and fitted on float32 but scored on int8, as in an exported file.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

import panderm
import panderm.exported  # first: it keeps ONNX Runtime from reporting its use
from panderm.embeddings import Embeddings, EmbeddingsCard
from panderm.exported.parity import of_torch, resized
from panderm.predictions import Predictions
from panderm.provenance import Provenance
from panderm.scores import Score, differences
from panderm.statistics.similarity import centred_cosines, cosines

BATCH = 8
OWN = "ORT's dynamic int8"
Run = Callable[[np.ndarray], np.ndarray]


def session(path: Path) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda rgb: np.asarray(opened.run(["embedding"], {"rgb": rgb})[0])


def runs(eye: panderm.Encoder, folder: Path) -> dict[str, Run]:
    """Return the four ways from resized RGB to vectors, PyTorch first."""
    panderm.export(eye, folder / "fp32.onnx", progress=False)
    panderm.export(eye, folder / "int8.onnx", int8=True, progress=False)
    logging.disable(logging.WARNING)  # it advises a preparation that changes nothing here
    quantize_dynamic(
        folder / "fp32.onnx",
        folder / "own.onnx",
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    logging.disable(logging.NOTSET)
    kinds = [n.op_type for n in onnx.load(folder / "int8.onnx").graph.node]
    print(f"{kinds.count('MatMulInteger')} 8-bit products in int8.onnx")
    return {
        "PyTorch fp32": lambda rgb: of_torch(eye.network, rgb, eye.preprocess),
        "ONNX fp32": session(folder / "fp32.onnx"),
        "ONNX int8": session(folder / "int8.onnx"),
        OWN: session(folder / "own.onnx"),
    }


def show(score: Score, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{score.value:{sign}.3f} ({score.low:{sign}.3f} to {score.high:{sign}.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    for name in ("images", "encoder", "weights", "label", "group", "patient"):
        parser.add_argument(f"--{name}")
    for name, value in (("image-size", 224), ("rows", 1500), ("side-by-side", 256), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--test", default="test")
    args = parser.parse_args()
    eye = panderm.load_encoder(args.encoder, weights=args.weights, image_size=args.image_size, device="cpu")
    whole = panderm.read_table(
        args.table, images=args.images, label=args.label, group=args.group, patient=args.patient
    )
    train = np.flatnonzero(whole.split == "train")
    rng = np.random.default_rng(args.seed)
    train = np.sort(rng.permutation(train)[: args.rows])
    table = whole.select(np.concatenate([train, np.flatnonzero(whole.split == args.test)]))
    # In another order than the table's: the rows that all four ways see should be of every class.
    order = rng.permutation(len(table))

    with tempfile.TemporaryDirectory() as folder:
        ways = runs(eye, Path(folder))
        sizes = {name: (Path(folder) / f"{name}.onnx").stat().st_size / 1e6 for name in ("fp32", "int8")}
        made: dict[str, list[np.ndarray]] = {name: [] for name in ways}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for start in range(0, len(table), BATCH):
            rows = order[start : start + BATCH]
            rgb = np.stack([resized(panderm.read_image(path), eye.preprocess) for path in table.path[rows]])
            for name, run in ways.items():
                if name in ("PyTorch fp32", "ONNX int8") or start < args.side_by_side:
                    begun = time.perf_counter()
                    made[name].append(run(rgb))
                    seconds[name].append((time.perf_counter() - begun) / len(rgb))
        # The same images alone: what the neighbours in a batch do to an embedding.
        alone = {name: np.concatenate([ways[name](rgb[i : i + 1]) for i in range(len(rgb))]) for name in ways}
        shared = {name: float(np.abs(alone[name] - ways[name](rgb)).max()) for name in ways}
    print(
        f"{eye.name}, {eye.record.image_size} pixels; {table.card.name}: {len(table):,} images, "
        f"batches of {BATCH}, {torch.get_num_threads()} threads"
    )
    print(f"file: {sizes['fp32']:.1f} MB in fp32, {sizes['int8']:.1f} MB in int8")
    first = np.concatenate(made["PyTorch fp32"])
    together = len(seconds[OWN])  # batches that all ways had, in turn
    rate = {name: 1 / float(np.median(each[:together])) for name, each in seconds.items()}
    print(
        f"{'':20} {'images/s':>9} {'ratio':>6} {'smallest cosine':>16} {'centred: smallest, mean':>24}"
        f" {'alone or in a batch':>20}"
    )
    for name, parts in made.items():
        vectors = np.concatenate(parts)
        n = min(len(vectors), args.side_by_side)  # all ways on the same images
        plain, centred = cosines(first[:n], vectors[:n]), centred_cosines(first[:n], vectors[:n])
        print(
            f"{name:20} {rate[name]:9.1f} {rate[name] / rate['PyTorch fp32']:6.2f} {plain.min():16.5f}"
            f" {centred.min():16.4f} {centred.mean():7.4f} {shared[name]:20.1e}"
        )

    def embedded(name: str) -> Embeddings:
        vectors = np.empty_like(first)
        vectors[order] = np.concatenate(made[name])
        card = EmbeddingsCard(
            provenance=Provenance.now(), encoder=eye.record, table=table.card, rows=len(table), complete=True
        )
        return Embeddings(vectors, table, card)

    exact, rounded = embedded("PyTorch fp32"), embedded("ONNX int8")
    one, other = (panderm.probe(emb, test=args.test) for emb in (exact, rounded))
    assert one.probe is not None
    unseen = rounded.vectors[rounded.rows.split == args.test]
    mixed: Predictions = dataclasses.replace(one, probabilities=one.probe.probabilities(unseen))
    apart = [{}, *differences([one, other, mixed])]
    told = (
        "fitted on fp32, scored on fp32",
        "fitted on int8, scored on int8",
        "fitted on fp32, scored on int8",
    )
    print(
        f"{'tuned probe':31} {'balanced accuracy':>26} {'minus fp32 → fp32':>26} {'log loss':>8}"
        f" {'same class':>11}"
    )
    for name, predictions, difference in zip(told, (one, other, mixed), apart, strict=True):
        scores = panderm.evaluate(predictions)
        likely = predictions.probabilities[np.arange(len(predictions)), predictions.truth_codes()]
        same = int((predictions.predicted_codes() == one.predicted_codes()).sum())
        less = show(difference["balanced_accuracy"], signed=True) if difference else "–"
        print(
            f"{name:31} {show(scores.scores['balanced_accuracy']):>26} {less:>26}"
            f" {-np.log(np.maximum(likely, 1e-15)).mean():8.4f} {same:>5} of {len(one)}"
        )
    most = float(np.abs(mixed.probabilities - one.probabilities).max())
    print(f"largest difference of a probability, the fp32 probe on int8 vectors: {most:.3f}")
    print(
        f"{len(train):,} rows fitted, {scores.n} scored; {scores.clusters} {scores.unit}s resampled, "
        "95 % intervals"
    )


if __name__ == "__main__":
    main()
