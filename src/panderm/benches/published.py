"""The paper's nine-dataset linear evaluation as one table to read: classes, rows, and published numbers.

Two sources. "Paper" is Yan et al., "A multimodal vision foundation model for clinical dermatology", Nature
Medicine 2025 (dataset table and Methods); its scores stand in figures, so no number is taken from it.
"Published code" is what its authors released: split tables, logs, and per-image predictions, of the
repository and of its successor; scores were computed again from these where predictions were there. What is
not known is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PAPER, LOG = "paper", "log of the published code"
SUCCESSOR = "per-image results of the successor's code"
HISTORY = "per-image results in the history of the published code"


@dataclass(frozen=True)
class Number:
    """One published score of one encoder's linear probe, in [0, 1], and where it stands."""

    encoder: str
    score: str
    value: float
    source: str


@dataclass(frozen=True)
class PublishedSplit:
    """One way the authors divided a dataset; rows and classes as far as they are known.

    Attributes:
        name: what tells it from others of the same dataset.
        source: who says so.
        rows: by split.
        per_class: by split, then by class in the dataset's order of classes.
        numbers: scores of linear probes on its test rows.
    """

    name: str
    source: str
    rows: Mapping[str, int] = field(default_factory=dict)
    per_class: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: tuple[Number, ...] = ()


@dataclass(frozen=True)
class PublishedDataset:
    """One of the nine.

    Attributes:
        name: what it is called here, and what a row of ``--tables`` or a folder under ``--data`` must be.
        data: what ``panderm data show`` calls it.
        modality: how its pictures were taken.
        classes: how many.
        images: how many the paper counts.
        csv: the published code's table.
        class_names: in the order of the published label codes 0, 1, …; empty where that is not known.
        labels: columns that hold the class, the first that there is.
        splits: as published; the first is that of the paper's evaluation.
        note: what a reader must know.
    """

    name: str
    data: str
    modality: str
    classes: int
    images: int
    csv: str
    class_names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("label", "binary_label")
    splits: tuple[PublishedSplit, ...] = ()
    note: str = ""

    @property
    def score(self) -> str:
        """The paper's score: AUROC of two classes, weighted F1 of more."""
        return "auroc" if self.classes == 2 else "weighted_f1"


def _large(source: str, **scores: float) -> tuple[Number, ...]:
    return tuple(Number("panderm-large", name, value, source) for name, value in scores.items())


def _others(**scores: tuple[float, float, float]) -> tuple[Number, ...]:
    """Return accuracy, weighted F1 and one-vs-rest AUROC of other encoders, as the successor prints them."""
    names = ("accuracy", "weighted_f1", "auroc_ovr")
    return tuple(
        Number(encoder.replace("_", "-"), name, value, SUCCESSOR)
        for encoder, values in scores.items()
        for name, value in zip(names, values, strict=True)
    )


NINE: tuple[PublishedDataset, ...] = (
    PublishedDataset(
        name="ham10000",
        data="ham10000-clean",
        modality="dermoscopy",
        classes=7,
        images=10_015,
        csv="HAM_clean.csv",
        class_names=("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
        labels=("label", "dx"),
        splits=(
            PublishedSplit(
                name="clean",
                source=LOG,
                rows={"train": 8_207, "val": 575, "test": 1_232},
                per_class={
                    "train": (273, 448, 941, 102, 1_021, 5_304, 118),
                    "test": (35, 44, 107, 8, 70, 951, 17),
                },
                numbers=_large(
                    LOG,
                    weighted_f1=0.922471,
                    accuracy=0.923701,
                    balanced_accuracy=0.796631,
                    quadratic_kappa=0.880742,
                    auroc_ovo=0.977242,
                    auroc_ovr=0.987520,
                    average_precision=0.877725,
                ),
            ),
            PublishedSplit(
                name="official",
                source=SUCCESSOR,
                rows={"train": 8_012, "val": 500, "test": 1_503},
                per_class={"test": (49, 77, 165, 17, 168, 1_006, 21)},
                numbers=(
                    *_large(
                        SUCCESSOR,
                        weighted_f1=0.8811,
                        accuracy=0.8822,
                        balanced_accuracy=0.7831,
                        quadratic_kappa=0.8721,
                        auroc_ovo=0.9724,
                        average_precision=0.8759,
                    ),
                    *_others(
                        BiomedCLIP=(0.687, 0.586, 0.880),
                        CLIP_L=(0.846, 0.841, 0.968),
                        MONET=(0.851, 0.845, 0.970),
                        DINOv3_L=(0.863, 0.859, 0.976),
                        DermLIP_B16=(0.851, 0.844, 0.973),
                        DermLIP_PanDerm=(0.884, 0.882, 0.981),
                        DermFM_Zero=(0.893, 0.894, 0.989),
                    ),
                ),
            ),
        ),
        note="the paper states 60/20/20; the released table is 82/6/12",
    ),
    PublishedDataset(
        name="bcn20000",
        data="bcn20000-isic2019",
        modality="dermoscopy",
        classes=9,
        images=12_413,
        csv="bcn20000.csv",
        note="the paper states 60/20/20; its rows and classes were not published, and the public part of "
        "12,413 images has 8 classes",
    ),
    PublishedDataset(
        name="mskcc",
        data="mskcc",
        modality="dermoscopy",
        classes=2,
        images=8_984,
        csv="mskcc.csv",
        note="melanoma against all others; the split was not published, and users question the 8,984",
    ),
    PublishedDataset(
        name="hiba",
        data="hiba",
        modality="dermoscopy",
        classes=2,
        images=1_635,
        csv="hiba.csv",
        note="its source has 1,616 images; the split was not published",
    ),
    PublishedDataset(
        name="padufes20",
        data="padufes20",
        modality="clinical",
        classes=6,
        images=2_298,
        csv="2000.csv",
        class_names=("NEV", "BCC", "ACK", "SEK", "SCC", "MEL"),
        labels=("label", "diagnostic"),
        splits=(
            PublishedSplit(
                name="released",
                source=SUCCESSOR,
                rows={"train": 1_493, "val": 344, "test": 461},
                per_class={"train": (174, 543, 464, 154, 123, 35), "test": (37, 177, 155, 46, 38, 8)},
                numbers=(
                    *_large(
                        SUCCESSOR,
                        weighted_f1=0.7586,
                        accuracy=0.7592,
                        balanced_accuracy=0.7094,
                        quadratic_kappa=0.5608,
                        auroc_ovo=0.9482,
                        auroc_ovr=0.942,
                        average_precision=0.7865,
                    ),
                    *_others(
                        BiomedCLIP=(0.680, 0.640, 0.893),
                        CLIP_L=(0.725, 0.722, 0.926),
                        MONET=(0.731, 0.725, 0.916),
                        DINOv3_L=(0.728, 0.722, 0.932),
                        DermLIP_B16=(0.759, 0.748, 0.936),
                        DermLIP_PanDerm=(0.741, 0.741, 0.920),
                        DermFM_Zero=(0.754, 0.758, 0.935),
                    ),
                ),
            ),
        ),
    ),
    PublishedDataset(
        name="derm7pt-clinical",
        data="derm7pt-clinical",
        modality="clinical",
        classes=2,
        images=839,
        csv="atlas-clinical-all.csv",
        note="melanoma against nevus; the split was not published",
    ),
    PublishedDataset(
        name="ddi",
        data="ddi",
        modality="clinical",
        classes=2,
        images=647,
        csv="ddi_clean.csv",
        class_names=("benign", "malignant"),
        splits=(
            PublishedSplit(
                name="released",
                source=HISTORY,
                rows={"test": 137},
                per_class={"test": (108, 29)},
                numbers=_large(
                    HISTORY,
                    auroc=0.840358,
                    accuracy=0.802920,
                    balanced_accuracy=0.786718,
                    weighted_f1=0.814652,
                    quadratic_kappa=0.492662,
                    average_precision=0.528573,
                ),
            ),
        ),
        note="the paper says melanoma against all others; 29 of 137 test rows are positive, as malignant are",
    ),
    PublishedDataset(
        name="dermnet",
        data="dermnet",
        modality="clinical",
        classes=23,
        images=19_559,
        csv="dermnet.csv",
        note="the split was not published",
    ),
    PublishedDataset(
        name="patch16",
        data="patch16",
        modality="dermatopathology",
        classes=16,
        images=129_364,
        csv="patch.csv",
        note="the paper states 55/15/30 of 129,364; an old notebook of the published code has 28,039 train "
        "and 12,354 test rows",
    ),
)
