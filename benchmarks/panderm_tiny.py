"""Make PanDerm-Tiny, the encoder inside the package: one command from images to measured weights.

    python benchmarks/panderm_tiny.py DATA TEACHER.safetensors --out RUN

DATA holds the folders ham10000, isic2020_patients, isic_uda1 and padufes20, each with images/ and a table.
TEACHER is DINOv2 ViT-S/14. The student learns from the train rows of ham10000 and padufes20 and from all rows
of the other two, without their labels; images of ham10000's val rows, and their near-duplicates, are left
out. Then RUN/panderm-tiny.safetensors is written, float16, and measured: a linear probe on all train rows of
ham10000, scored on its val rows, beside the same form with drawn weights and beside the teacher, in
RUN/measured/report.html. Given again after a stop, the command goes on.

Some three hours on two cores of a CPU: a quarter of them the teacher's looks, another the narrowing.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import panderm
from panderm.pretraining.weights_file import read_pretrained, write_encoder
from panderm.storage import write_text

TABLES = {
    "ham10000": ("ham_clean.csv", "train"),
    "isic2020_patients": ("labels.csv", None),
    "isic_uda1": ("labels.csv", None),
    "padufes20": ("labels.csv", "train"),
}
TEACHER = "timm:vit_small_patch14_dinov2"
RECIPE: dict[str, Any] = {
    "student": "tiny",
    "views": 1,
    "epochs": 3,
    "batch_size": 32,
    "lr": 1e-4,
    "min_lr": 1e-6,
    "warmup_epochs": 0.3,
    "weight_decay": 0.02,
    "mask_ratio": 0.15,
    "masked_weight": 0.1,
    "cls_weight": 20.0,
    "vertical_flip": 0.5,
}
NAME = "panderm-tiny"
LICENCE = "CC BY-NC 4.0 (non-commercial)"
CITATION = "PanDerm-Tiny, weights that come with the open toolkit panderm"
SOURCE = "docs/panderm-tiny.md"


def listed(data: Path) -> list[Path]:
    """Return the images to learn from."""
    found = []
    for name, (table, split) in TABLES.items():
        with (data / name / table).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if split is None or row["split"] == split]
        found += [data / name / "images" / row["image"] for row in rows]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    ham = given.data / "ham10000"
    images = out / "images.txt"
    write_text(images, "".join(f"{path.resolve()}\n" for path in listed(given.data)), overwrite=True)
    run = panderm.pretrain(
        images,
        out / "run",
        teacher=TEACHER,
        teacher_weights=given.teacher,
        init=given.teacher,
        targets=out / "targets",
        exclude=[ham / "ham_clean.csv"],
        exclude_images=ham / "images",
        exclude_split="val",
        name=NAME,
        device=given.device,
        **RECIPE,
    )
    model, _ = read_pretrained(run.whole)
    made = out / f"{NAME}.safetensors"
    write_encoder(
        model, made, NAME, licence=LICENCE, citation=CITATION, source=SOURCE, half=True, overwrite=True
    )
    panderm.run(
        ham / "ham_clean.csv",
        out=out / "measured",
        encoder=["random-tiny", str(made), TEACHER],
        weights=[None, None, given.teacher],
        images=ham / "images",
        image_size=224,
        label="dx",
        group="lesion_id",
        test="val",
        device=given.device,
        overwrite=True,
    )


if __name__ == "__main__":
    main()
