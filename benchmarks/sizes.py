"""What another input size does to an encoder: its vectors, a tuned probe on them, and its speed, in one run.

    python benchmarks/sizes.py --encoder timm:vit_small_patch14_dinov2 --weights dinov2_vits14.safetensors \
        --sizes 112 168 224 336 --reference 224 \
        --data labels.csv,images=images/,label=diagnostic,patient=patient_id,group=lesion_id

Each table is embedded at every size and probed anew. Beside each score with its interval stands how far it
lies from the reference size's on the same bootstrap draws: where that interval holds 0, this table cannot
tell the two sizes apart. The centred cosine of a vector is taken after subtracting the mean over the images,
at each size its own; the plain cosine beside it hides what a probe sees.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import numpy.typing as npt

import panderm
from panderm.scores import Score, differences

SCORES = ("balanced_accuracy", "auroc", "auroc_ovr")
ROLES = ("images", "label", "patient", "group")
Vectors = npt.NDArray[np.float64]


def table_of(text: str) -> panderm.Table:
    """Read ``CSV[,images=…][,label=…][,patient=…][,group=…]``."""
    path, *roles = text.split(",")
    given = dict(role.split("=", 1) for role in roles)
    if unknown := sorted(set(given) - set(ROLES)):
        raise SystemExit(f"--data knows {', '.join(ROLES)}, not {', '.join(unknown)}")
    return panderm.read_table(path, progress=False, **given)


def cosines(a: Vectors, b: Vectors) -> Vectors:
    return np.asarray((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


def shown(score: Score) -> str:
    if score.value is None:
        return "not computable"
    return f"{score.value:+.3f} ({score.low:+.3f} to {score.high:+.3f})"


def load(size: int, args: argparse.Namespace) -> panderm.Encoder:
    return panderm.load_encoder(
        args.encoder, weights=args.weights, image_size=size, precision=args.precision, device=args.device
    )


def speed(args: argparse.Namespace) -> None:
    """Time the encoders alone, in turns, so that whatever else the machine does meets all sizes alike."""
    encoders = {size: load(size, args) for size in args.sizes}
    pixels = {
        size: np.random.default_rng(0).normal(size=(8, 3, size, size)).astype(np.float32) for size in encoders
    }
    best = dict.fromkeys(encoders, float("inf"))
    for _ in range(1 + args.repeats):  # the first turn warms up and seldom is the best
        for size, encoder in encoders.items():
            started = time.perf_counter()
            encoder.encode(pixels[size])
            best[size] = min(best[size], time.perf_counter() - started)
    print(f"images per second of encode alone, batches of 8, the best of {args.repeats}:")
    for size, seconds in best.items():
        print(f"{size:4d} px  {8 / seconds:6.1f}  × {best[args.reference] / seconds:.2f}")


def measure(table: panderm.Table, args: argparse.Namespace) -> None:
    vectors: dict[int, Vectors] = {}
    predictions: dict[int, panderm.Predictions] = {}
    for size in args.sizes:
        emb = load(size, args).embed(table, workers=args.workers, progress=False)
        vectors[size] = emb.vectors.astype(np.float64)
        predictions[size] = panderm.probe(emb, test=args.test)
    reference = args.reference
    others = [size for size in args.sizes if size != reference]
    found = differences([predictions[one] for one in (reference, *others)]) if others else ()
    apart = dict(zip(others, found, strict=True))
    about = panderm.evaluate(predictions[reference])
    print(f"\n{table.card.csv}: {len(table)} images, {about.n} scored, {about.clusters} × {about.unit}")
    names = [name for name in SCORES if name in about.scores]
    wide = max(len(name) for name in names)
    for size in args.sizes:
        a, b = vectors[reference], vectors[size]
        plain = cosines(a, b).mean()
        centred = cosines(a - a.mean(axis=0), b - b.mean(axis=0))
        print(
            f"{size:4d} px  cosine {plain:.3f}, centred {centred.mean():.3f}"
            f" (5 % of images below {np.percentile(centred, 5):.3f})"
        )
        scores = panderm.evaluate(predictions[size]).scores
        for name in names:
            one = scores[name]
            value = (
                "not computable" if one.value is None else f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})"
            )
            step = f"  from {reference}: {shown(apart[size][name])}" if size in apart else ""
            print(f"         {name:{wide}} {value}{step}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 168, 224, 336])
    parser.add_argument("--reference", type=int, default=224, help="the size the others are compared with")
    parser.add_argument("--repeats", type=int, default=5, help="of the timing")
    parser.add_argument("--data", action="append", default=[], help="CSV[,images=…][,label=…][,patient=…]")
    parser.add_argument("--test", default="test", help="the split that is scored")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.reference not in args.sizes:
        raise SystemExit(f"--reference {args.reference} must be one of --sizes")
    print(f"{args.encoder}, {args.precision}; tuned probe; 95 % intervals, 2,000 draws")
    speed(args)
    for text in args.data:
        measure(table_of(text), args)


if __name__ == "__main__":
    main()
