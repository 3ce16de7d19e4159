"""Options that several verbs share, each with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

MAX_MEGAPIXELS = 179.0  # as panderm.data.stored has it: the help must not wait for the decoder
Json = Annotated[bool, Option("--json", help="Print one JSON object to standard output, nothing else.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="No progress bars.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace outputs that exist.")]
TableFile = Annotated[Path, Argument(help="CSV with one row per image.", show_default=False)]
Images = Annotated[
    Path | None,
    Option(help="Folder the image column is relative to; default: the CSV's own.", show_default=False),
]
ImageColumn = Annotated[str, Option(help="Column with the image's file name.")]
Label = Annotated[
    str | None, Option(help="Column with the class; default: label, else binary_label.", show_default=False)
]
SplitColumn = Annotated[str, Option(help="Column with train, val or test.")]
Patient = Annotated[
    str | None, Option(help="Column with the patient; default: patient_id or patient.", show_default=False)
]
Group = Annotated[
    str | None, Option(help="Column with the lesion; default: lesion_id or lesion.", show_default=False)
]
Classes = Annotated[
    str | None,
    Option(
        help="All classes in the wanted order, a,b,c; of two, the second is the positive one.",
        show_default=False,
    ),
]
SkipBad = Annotated[
    bool,
    Option(
        "--skip-bad", help="Leave out rows whose image cannot be read or whose label is empty, and say so."
    ),
]
MaxMegapixels = Annotated[
    float, Option(help="An image of more millions of pixels is refused; raise it for larger ones.", min=0.001)
]
EncoderName = Annotated[
    str | None,
    Option(
        help="A name that panderm models lists, timm:NAME, hf-hub:ORG/NAME, open_clip:ARCH/TAG, "
        "transformers:ID, or a file that panderm convert wrote.",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    Option(
        help="Local weights file of the encoder, or its folder; default: as downloaded.", show_default=False
    ),
]
CardFile = Annotated[
    Path | None, Option("--card", help="Your own encoder's card, a JSON file.", show_default=False)
]
PoolWay = Annotated[
    Literal["cls", "mean"] | None,
    Option(
        help="cls: CLS token; mean: mean of patch tokens. Default: the encoder's own.", show_default=False
    ),
]
ImageSize = Annotated[
    int | None,
    Option(help="Side of the input in pixels; of PanDerm a multiple of 16.", min=14, show_default=False),
]
PrecisionName = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "int8"],
    Option(
        help="auto: what the hardware has; int8: with OpenVINO. Fewer bits are checked against fp32 on the "
        "first images."
    ),
]
EngineName = Annotated[
    Literal["torch", "openvino"],
    Option("--engine", help="What runs the network; openvino, the fastest on a CPU, is an extra."),
]
Compile = Annotated[
    bool, Option("--compile", help="Compile the network: up to a minute at first, then faster on a GPU.")
]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:1, mps.")]
BatchSize = Annotated[
    int | None,
    Option(help="Images encoded at once; default: what suits the device.", min=1, show_default=False),
]
Workers = Annotated[int, Option(help="Threads that decode images.", min=1)]
DecodeWorkers = Annotated[
    int | None,
    Option(
        "--workers",
        help="Threads or processes that decode images; default: what keeps the network busy, by measurement.",
        min=1,
        show_default=False,
    ),
]
Exact = Annotated[
    bool,
    Option(
        "--exact",
        help="Decode every image as the reference does; default: JPEG faster, compared on the first images.",
    ),
]
RecipeName = Annotated[
    Literal["tuned", "paper"],
    Option(help="tuned: squared L2, strength chosen on val; paper: the published probe exactly."),
]
Kind = Annotated[
    Literal["linear", "knn", "prototypes", "attentive", "mlp"],
    Option(
        help="linear; knn: nearest neighbours; prototypes: nearest class mean; attentive: a learned query "
        "over patch tokens; mlp: one hidden layer."
    ),
]
Strength = Annotated[
    float | None,
    Option("--C", help="Strength of a linear probe, where it is not to be chosen.", show_default=False),
]
Neighbours = Annotated[
    int | None,
    Option("--k", help="Neighbours of knn, where they are not to be chosen.", min=1, show_default=False),
]
ClassWeight = Annotated[
    Literal["none", "balanced"],
    Option(help="balanced: each class counts as much as any other; probabilities then are too."),
]
SampleWeight = Annotated[
    str | None,
    Option(help="Column of the table: how much each row counts, greater than 0.", show_default=False),
]
Pooling = Annotated[
    Literal["stored", "cls", "mean", "both", "choose"],
    Option(
        help="stored: vectors as they are; cls; mean: of patch tokens; both, side by side; choose: the one "
        "of least log loss on val or in cross-validation."
    ),
]
Unit = Annotated[
    Literal["image", "lesion", "patient"],
    Option(help="What is predicted and scored: each image, or all images of one lesion or patient as one."),
]
UnitPool = Annotated[
    Literal["embedding", "probability"],
    Option(
        help="The mean of a unit's embeddings, before the fit, or of its images' probabilities, after it."
    ),
]
Float64 = Annotated[bool, Option("--float64", help="Double precision throughout.")]
Calibrate = Annotated[
    Literal["none", "temperature"],
    Option(help="temperature: divide the logits by one number, chosen by log loss on the val rows."),
]
Test = Annotated[str, Option("--test", help="The split to score.")]
PercentData = Annotated[float, Option(help="Part of the training rows to fit, 0 to 1.")]
Draws = Annotated[int, Option(help="Bootstrap draws.", min=1)]
ImageFree = Annotated[
    bool,
    Option("--image-free", help="Score the table's columns without any image too, and what the images add."),
]
ImageFreeColumns = Annotated[
    str | None,
    Option(
        help="Its columns, a,b,c; default: all that describe and do not give the answer away.",
        show_default=False,
    ),
]
Seed = Annotated[int, Option(help="Seed of the fit and of the bootstrap.", min=0, max=2**32 - 1)]
PublishedCsv = Annotated[
    Path | None,
    Option(help="Folder for the published code's <dataset>.csv and summary.csv.", show_default=False),
]
FoldColumn = Annotated[
    str | None,
    Option(
        help="Column with the fold of each row, as panderm split --folds writes it; instead of --folds.",
        show_default=False,
    ),
]
FoldsOf = Annotated[
    str | None,
    Option(help="Splits whose rows are cross-validated, a,b; default: all rows.", show_default=False),
]
TestSplit = Annotated[
    str | None, Option(help="Split of --test-on to predict; default: all its rows.", show_default=False)
]
Taxonomy = Annotated[
    str | None,
    Option(
        help="Dataset whose words the labels are, for --level; default: the one that has them all.",
        show_default=False,
    ),
]
TestTaxonomy = Annotated[str | None, Option(help="Likewise of the labels of --test-on.", show_default=False)]
LevelName = Annotated[
    Literal["malignant", "group", "diagnosis"] | None,
    Option(
        help="Match both tables' labels through the diagnosis map, at this level; default: by their names.",
        show_default=False,
    ),
]
IndeterminateLabels = Annotated[
    Literal["keep", "authors", "benign", "malignant", "empty"],
    Option(help="At level malignant: what premalignant and uncertain labels become."),
]
LabelMap = Annotated[
    Path | None,
    Option(
        help="CSV of two columns: a label of --test-on, and the class it is; empty: left out.",
        show_default=False,
    ),
]
KeepAbsent = Annotated[
    bool, Option("--keep-absent", help="Keep classes of which --test-on has no row among the answers.")
]
AllowOverlap = Annotated[
    bool, Option("--allow-overlap", help="Go on where both tables share images, patients or lesions.")
]
Validation = Annotated[
    Path | None,
    Option(
        help="Predictions of other rows by the same predictor: thresholds, recalibration and prediction sets "
        "come from them; default: those that probe keeps beside.",
        show_default=False,
    ),
]
Positive = Annotated[
    list[str] | None,
    Option(
        help="Class that counts as positive, several times for several, or malignant; default: the second of "
        "two. Of two it is the positive one of every score.",
        show_default=False,
    ),
]
At = Annotated[
    list[str] | None,
    Option(
        help="Operating point: sensitivity=0.95, specificity=0.9, youden, cost=20 or threshold=0.3; several "
        "times for several; default: the first three.",
        show_default=False,
    ),
]
Prevalence = Annotated[
    list[float] | None,
    Option(help="Share of positives at which PPV and NPV are told; several times.", show_default=False),
]
DiagnosisColumn = Annotated[
    str | None,
    Option(help="Column with the diagnosis, for the share called positive among each.", show_default=False),
]
HierarchyOf = Annotated[
    str | None,
    Option(
        help="Taxonomy of the diagnosis map, or a CSV of groups: scores level by level.", show_default=False
    ),
]
Coverage = Annotated[float, Option(help="Share of rows whose prediction set is to hold the truth.")]
PriorShares = Annotated[
    str | None,
    Option(
        "--prior",
        help="Shares of the classes elsewhere, mel=0.02,nv=0.98; of two classes the second's is enough.",
        show_default=False,
    ),
]
ScoresOnly = Annotated[
    bool, Option("--scores-only", help="No operating points, calibration, prediction sets.")
]
IntervalBy = Annotated[
    Literal["percentile", "bca", "analytic"],
    Option(
        "--interval",
        help="How intervals are made: percentiles of the draws; these corrected for bias and skew; or "
        "Wilson's and DeLong's where there is a formula.",
    ),
]
Stratified = Annotated[
    bool, Option("--stratified", help="Draw patients within the classes that they show: no draw loses one.")
]
By = Annotated[
    list[str] | None,
    Option(
        help="Column whose values are scored as subgroups too, or a crossing of two, sex:age; several times.",
        show_default=False,
    ),
]
ColumnsFile = Annotated[
    Path | None,
    Option(
        help="CSV with the columns of --by, joined by image name; default: the table that was embedded.",
        show_default=False,
    ),
]
ColumnsImage = Annotated[
    str | None,
    Option(
        "--image-column",
        help="Its column with the image's name; default: as in the table that was embedded.",
        show_default=False,
    ),
]
Bands = Annotated[
    list[str] | None,
    Option(
        help="Where to cut a column of numbers, age=30,50,70; default: ages by decades, else at quartiles.",
        show_default=False,
    ),
]


def listed(text: str | None) -> list[str] | None:
    """Return the names in ``a,b,c``; None where nothing was said."""
    return None if text is None else [name for part in text.split(",") if (name := part.strip())]
