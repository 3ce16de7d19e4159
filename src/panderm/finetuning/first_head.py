"""Where the head begins: as a linear probe of the encoder before it learns."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from timm.layers import DropPath

from panderm.data.preprocess import Preprocess
from panderm.data.table import Table
from panderm.embeddings.making.ranks import Ranks
from panderm.errors import DataError, PandermWarning
from panderm.finetuning.feed import LabelledFeed
from panderm.finetuning.network import ClassifierNetwork
from panderm.finetuning.rows import Rows
from panderm.finetuning.views import TrainViews
from panderm.progress import Progress, say
from panderm.training.features import Features, groups_of
from panderm.training.linear_probe import LinearProbe
from panderm.training.long.checkpoint import last_checkpoint
from panderm.training.multi_label import LabelledRows, fit_labels
from panderm.training.settings import ClassWeight, ProbeSettings

MOST = 20_000  # training rows that the probe sees: more make the same head, later
_BATCH = 32
_LIKE_ROWS = 7  # what tells the generator of these rows from those of views, mixes and draws
_NO_EPOCH = 2**32 - 1  # whose views no epoch shows


def probed_head(
    network: ClassifierNetwork,
    rows: Rows,
    preprocess: Preprocess,
    views: TrainViews,
    *,
    class_weight: ClassWeight = "none",
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Return a head that is a logistic regression on what the encoder says of the training rows.

    A head that begins at nothing bends the encoder before it knows where to (Kumar et al., "Fine-Tuning can
    Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022, LP-FT), and of few images
    the steps do not suffice to find it. It is fitted on what the first step will see: a random view of each
    image, through stochastic depth; a probe of undisturbed images leans on what these disturb. Its strength
    is chosen by cross-validation of the training rows that keeps patients or lesions whole; neither
    validation nor test rows are looked at.

    Args:
        network: on the device that it is to learn on.
        rows: of the run; of more than 20,000 training rows so many, drawn by the seed.
        preprocess: of the encoder.
        views: how training images are seen.
        class_weight: ``balanced`` where classes are balanced in training.
        seed: of the draw, and of the folds.
        workers: threads that decode.
        progress: show a bar.

    Returns:
        JSON-able: ``weight`` (K, D), ``bias`` (K,), and ``told``, a sentence for the user. A class whose
        images cannot be read begins at zero.

    Raises:
        DataError: an encoder that gives numbers that are not finite.
    """
    chosen = rows.train
    if len(chosen) > MOST:
        rng = np.random.default_rng([seed, _LIKE_ROWS])
        chosen = np.sort(rng.choice(chosen, MOST, replace=False))
    table = rows.table.select(chosen)
    X, read = _vectors(network, table, preprocess, views, seed=seed, workers=workers, progress=progress)
    chosen, table = chosen[read], table.select(np.flatnonzero(read))
    image, groups = table.image, groups_of(table)
    K = len(rows.classes)
    weight, bias = np.zeros((K, X.shape[1])), np.zeros(K)
    truth = rows.truth[chosen]
    taught: list[int]
    if rows.labels == "several":
        of_each = LabelledRows(X, truth, rows.classes, image, groups)
        taught = [k for k in range(K) if of_each.both(k)]
        if taught:
            settings = ProbeSettings(class_weight=class_weight, device="cpu", seed=seed)
            found = fit_labels(settings, of_each, None, method={}).probe
            weight[taught], bias[taught] = found.weight[taught], found.bias[taught]  # type: ignore[attr-defined]
        told = "one of each label"
    else:
        codes = truth.argmax(axis=1)
        names, taught = np.array(rows.classes, dtype=object)[codes], sorted(set(codes.tolist()))
        if len(taught) > 1:
            probe = LinearProbe(
                class_weight="balanced" if class_weight == "balanced" else None, device="cpu", seed=seed
            ).fit_features(Features(X, names, rows.classes, image, groups))
            weight[taught], bias[taught] = probe.coef_, probe.intercept_
            told = f"C {probe.C_:.3g}, {probe.chosen_on_}"
        else:
            told = "nothing, as one class only could be read"
    return {
        "weight": weight.tolist(),
        "bias": bias.tolist(),
        "told": f"the head begins as a linear probe of {len(chosen):,} training images ({told})",
    }


def begin_as_probe(
    network: ClassifierNetwork,
    rows: Rows,
    preprocess: Preprocess,
    views: TrainViews,
    *,
    folder: Path,
    class_weight: ClassWeight,
    seed: int,
    workers: int | None,
    ranks: Ranks,
    progress: bool,
) -> None:
    """Give a network the head of :func:`probed_head`, the same in all processes.

    Where a run of this folder has a checkpoint, its head is there, and nothing is done.
    """

    def begun() -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PandermWarning)  # the loop tells it
            return last_checkpoint(folder) is not None

    if ranks.agree(begun):
        return
    found = ranks.agree(
        lambda: probed_head(
            network,
            rows,
            preprocess,
            views,
            class_weight=class_weight,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    )
    if progress and ranks.lead:
        say(found["told"])
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor(found["weight"], dtype=torch.float32))
        network.head.bias.copy_(torch.tensor(found["bias"], dtype=torch.float32))


def _vectors(
    network: ClassifierNetwork,
    table: Table,
    preprocess: Preprocess,
    views: TrainViews,
    *,
    seed: int,
    workers: int | None,
    progress: bool,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return what the encoder says of the images that can be read, float32 (m, D), and which those are."""
    device = network.head.weight.device
    n = len(table)
    X = np.zeros((n, network.head.in_features), dtype=np.float32)
    read = np.zeros(n, dtype=bool)
    groups = [np.arange(s, min(s + _BATCH, n)) for s in range(0, n, _BATCH)]
    training = network.training
    network.eval()
    for part in network.modules():
        if isinstance(part, DropPath):
            part.train()
    try:
        with (
            Progress(n, "a first head", "images", shown=progress) as bar,
            LabelledFeed(table, views, seed=seed, epoch=_NO_EPOCH, groups=groups, workers=workers) as feed,
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.inference_mode(),
        ):
            torch.manual_seed(seed)
            for batch in feed:
                read[batch.rows] = True
                if len(batch.rows):
                    pixels = preprocess.normalise(batch.rgb.to(device))
                    X[batch.rows] = network.encoder(pixels).float().cpu().numpy()
                bar.advance(len(batch.rows) + len(batch.bad))
    finally:
        network.train(training)
    if not np.isfinite(X).all():
        raise DataError(
            "an encoder must give finite numbers.",
            f"it did not for {int((~np.isfinite(X)).any(axis=1).sum()):,} of {n:,} training images",
        )
    return X[read], read
