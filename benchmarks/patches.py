"""Stored patch tokens: whether they lie where they should on real images, and what they cost in time.

    python benchmarks/patches.py --encoder timm:vit_small_patch14_dinov2 --weights dinov2_vits14.safetensors \
        --image-size 224 --table labels.csv --images images/ --masks masks/ --mask-column mask

A linear probe is fitted on the patches of one half of the images, against masks that went through the same
resize and crop, and scored on the other half: Dice on the patch grid, mean over images, with an interval that
resamples images. The same answers turned, mirrored, or laid on another image must score worse, or the tokens
do not lie where they should; so must one mask for all, the mean of the first half.

Times are of the network alone, vectors with and without tokens in turns, so that whatever else the machine
does meets both alike. PanDerm's networks have random weights here: they do not change the time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import panderm
from panderm.models import cards
from panderm.models.network import build

Masks = npt.NDArray[np.bool_]
DRAWS = 2000


def covered(path: Path, preprocess: panderm.Preprocess, grid: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the share of each patch that a mask covers, (h, w)."""
    mask = preprocess.pixels(panderm.read_image(path))[:, :, 0]
    rows, columns = grid
    share: npt.NDArray[np.float64] = (
        mask.reshape(rows, len(mask) // rows, columns, -1).mean(axis=(1, 3)) / 255
    )
    return share


def dice(found: Masks, true: Masks) -> npt.NDArray[np.float64]:
    """Return the Dice coefficient of each image, (n,); 1 where both are empty."""
    both, sizes = (found & true).sum(axis=(1, 2)), (found.sum(axis=(1, 2)) + true.sum(axis=(1, 2)))
    return np.where(sizes, 2 * both / np.maximum(sizes, 1), 1.0)


def shown(values: npt.NDArray[np.float64], seed: int) -> str:
    drawn = np.random.default_rng(seed).choice(values, (DRAWS, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def segment(args: argparse.Namespace) -> None:
    table = panderm.read_table(args.table, images=args.images, label=args.label, progress=False)
    encoder = panderm.load_encoder(args.encoder, weights=args.weights, image_size=args.image_size)
    with tempfile.TemporaryDirectory() as folder:
        emb = encoder.embed(table, Path(folder) / "x.emb", tokens=True)
        names = pd.read_csv(args.table, index_col="image")[args.mask_column]
        grid = emb.card.tokens.grid
        paths = [args.masks / names[image] for image in emb.rows.image]
        share = np.stack([covered(path, encoder.preprocess, grid) for path in paths])
        true = share > 0.5
        order = np.random.default_rng(args.seed).permutation(len(emb))
        fit, test = np.sort(order[: len(emb) // 2]), np.sort(order[len(emb) // 2 :])
        dim = emb.card.tokens.dim
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        probe.fit(emb.tokens[fit].reshape(-1, dim).astype(np.float32), true[fit].ravel())
        answers = probe.predict(emb.tokens[test].reshape(-1, dim).astype(np.float32))
        found = answers.reshape(len(test), *grid)
    mean = share[fit].mean(axis=0)
    others = {
        "turned (rows for columns)": found.transpose(0, 2, 1),
        "mirrored, left for right": found[:, :, ::-1],
        "mirrored, top for bottom": found[:, ::-1],
        "of the next image": np.roll(found, 1, axis=0),
        "one mask for all": np.broadcast_to(mean > mean.max() / 2, found.shape),
    }
    as_found = dice(found, true[test])
    size = f"{encoder.record.image_size} pixels, grid {grid[0]} × {grid[1]}"
    print(f"{encoder.name}, {size}; fitted on {len(fit)} images, scored on {len(test)}")
    print(f"mean over images (95 %), images resampled, {DRAWS:,} draws, seed {args.seed}")
    print(f"{'Dice of patches':28s} {shown(as_found, args.seed)}")
    for name, other in others.items():
        there = dice(other, true[test])
        less = shown(there - as_found, args.seed)
        print(f"{name:28s} {shown(there, args.seed)}; difference {less}")


def cost(args: argparse.Namespace) -> None:
    device = torch.device(args.device)
    like = panderm.load_encoder("random-tiny", device=args.device)
    for name in ("panderm-base", "panderm-large"):
        card = next(card for card in cards.KNOWN if card.name == name)
        network = build(card, "cls").to_empty(device=device)
        generator = torch.Generator().manual_seed(0)
        for parameter in network.parameters():
            parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
        for precision in args.precisions:
            record = like.record.model_copy(update={"name": name, "dim": card.dim, "precision": precision})
            encoder = panderm.Encoder(network, like.preprocess, record, like.account, device)
            rgb = torch.randint(0, 256, (args.batch_size, 224, 224, 3), dtype=torch.uint8)
            taken: dict[bool, list[float]] = {False: [], True: []}
            for turn in range(args.repeats + 1):
                for tokens in (False, True):
                    started = time.perf_counter()
                    made = encoder.forward_rgb(rgb, tokens=tokens)
                    (made[0] if tokens else made).sum().item()  # a GPU is waited for
                    if turn:  # the first turn warms up
                        taken[tokens].append((time.perf_counter() - started) / len(rgb))
            plain, both = (np.array(taken[tokens]) for tokens in (False, True))
            print(
                f"{name} {precision} on {device.type}: {1 / np.median(plain):.2f} images/s for vectors, "
                f"{1 / np.median(both):.2f} with tokens, × {np.median(both / plain):.3f} "
                f"(of {args.repeats} turns × {(both / plain).min():.3f} to {(both / plain).max():.3f})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="timm:vit_small_patch14_dinov2")
    parser.add_argument("--weights")
    parser.add_argument("--image-size", type=int)
    parser.add_argument(
        "--table", type=Path, help="CSV with an image and a mask column; without it only times"
    )
    parser.add_argument("--images", type=Path)
    parser.add_argument("--masks", type=Path, help="folder of the masks, white inside")
    parser.add_argument("--mask-column", default="mask")
    parser.add_argument("--label")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="*", default=["fp32", "bf16"])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    if args.table is not None:
        segment(args)
    cost(args)


if __name__ == "__main__":
    main()
