"""What it costs to watch a pretraining run, the encoding aside: probe, spread, picture, page.

    python benchmarks/watch.py EMBEDDINGS.emb [--count 2000] [--draws 1000]

The probe gets the vectors of an embedded table in place of a student's. The student of the picture is a
ViT-Ti with drawn weights, its teacher's tokens are drawn. Seconds of processor time, one thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core is measured

import numpy as np
import torch

import panderm
from panderm.pretraining.alarms import spread
from panderm.pretraining.masks import MaskDrawer
from panderm.pretraining.online_probe import OnlineProbe
from panderm.pretraining.picture import draw_picture
from panderm.pretraining.student import PretrainingModel
from panderm.pretraining.weights_file import student_preprocess

TOKENS = 197


def seconds(what: str, work: Callable[[], object]) -> object:
    began = time.process_time()
    made = work()
    print(f"{what:<44}{time.process_time() - began:8.2f} s")
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    held = panderm.open_embeddings(args.embeddings)
    at = {image: i for i, image in enumerate(held.rows.image)}
    options = {"images": args.count, "draws": args.draws, "workers": 1, "progress": False}
    probe = seconds(
        "draw and decode the images, once", lambda: OnlineProbe(held.rows, student_preprocess(), **options)
    )
    assert isinstance(probe, OnlineProbe)
    record = probe.record
    print(f"  {record['fitted']:,} fitted, {record['scored']:,} scored, {probe.rgb.nbytes / 1e6:.0f} MB")
    rng = np.random.default_rng(0)
    images = [*probe._fitted.table.image, *probe._scored.table.image]
    features = np.asarray(held.vectors[[at[image] for image in images]], dtype=np.float32)
    probe.score(features)  # libraries are loaded at their first use
    seconds(f"fit and score both probes, D = {features.shape[1]}", lambda: probe.score(features))
    seconds("spread of the features", lambda: spread(features))
    model = PretrainingModel("tiny", target_dim=384)
    masks = MaskDrawer((14, 14), 30, "block")
    mask = torch.from_numpy(np.stack([masks.draw(rng) for _ in range(6)]))
    tokens = torch.from_numpy(rng.normal(size=(6, TOKENS, 384)).astype(np.float32))
    batch = SimpleNamespace(student=probe.rgb[:6], teacher=probe.rgb[:6], mask=mask)
    teacher = SimpleNamespace(targets=lambda rgb: tokens[: len(rgb)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        draw_picture(model, teacher, batch, path)
        seconds("picture of six images", lambda: draw_picture(model, teacher, batch, path))


if __name__ == "__main__":
    main()
