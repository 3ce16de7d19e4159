"""Datasets that come as one folder a class: MED-NODE, DermNet and PATCH16."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from panderm.data.diagnoses import read_map
from panderm.data.layouts.layout import SPLIT_NAMES
from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source
from panderm.errors import TableError


def by_class(images: Iterable[str]) -> pd.DataFrame:
    """Return the rows of images that lie in one folder a class: ``image``, ``label``, ``split``.

    Args:
        images: paths relative to the download, ``"Train/Acne/a.jpg"``. The label is the folder an image
            lies in, the split the folder above it where that is called train, val or test or the like.
    """
    rows = []
    for image in images:
        above, _, _ = image.rpartition("/")
        parts = above.split("/")
        split = SPLIT_NAMES.get(parts[-2].casefold(), "") if len(parts) > 1 else ""
        rows.append((image, parts[-1], split))
    return pd.DataFrame(rows, columns=["image", "label", "split"], dtype=str)


def of_classes(folder: Folder, classes: Iterable[str]) -> pd.DataFrame:
    """Return the rows of every image in a folder that is called as one of ``classes``.

    Raises:
        TableError: there is none.
    """
    names = {name.casefold(): name for name in classes}
    rows = by_class(folder.images_below())
    known = [label.casefold() in names for label in rows["label"]]
    found = rows[known].reset_index(drop=True)
    if found.empty:
        raise TableError(
            "the folders of the classes must be there.",
            f"none of {', '.join(list(names.values())[:3])} … is a folder with images below {folder.root}",
            "unpack the images there",
        )
    found["label"] = [names[label.casefold()] for label in found["label"]]
    return found


def _labels(taxonomy: str) -> tuple[tuple[str, str], ...]:
    return tuple((row.label, row.diagnosis or row.label) for row in read_map() if row.taxonomy == taxonomy)


_MEDNODE = (("melanoma", "melanoma"), ("naevus", "nevus"))


def _read_mednode(folder: Folder) -> Prepared:
    rows = of_classes(folder, (name for name, _ in _MEDNODE)).drop(columns="split")
    return Prepared(rows)


MEDNODE = Source(
    name="mednode",
    title="MED-NODE",
    modality="clinical",
    address="https://www.cs.rug.nl/~imaging/databases/melanoma_naevi/",
    licence="for research; no licence is stated",
    non_commercial=True,
    citation=(
        "Giotis I. et al. MED-NODE: A computer-assisted melanoma diagnosis system using non-dermoscopic "
        "images. Expert Syst Appl 42, 6578 (2015). doi:10.1016/j.eswa.2015.04.034"
    ),
    files=(File(("melanoma", "naevus"), "one folder a class"),),
    classes=_MEDNODE,
    counts=(
        Count(170, "Giotis 2015"),
        Count(70, "Giotis 2015", label="melanoma"),
        Count(100, "Giotis 2015", label="naevus"),
    ),
    read=_read_mednode,
    note="Small: a set to test on, not to train on. No patients are known.",
)

_DERMNET = tuple((label, label.removesuffix(" Photos")) for label, _ in _labels("dermnet"))


def _read_dermnet(folder: Folder) -> Prepared:
    rows = by_class(folder.images_below())
    rows = rows[rows["split"] != ""].reset_index(drop=True)
    if rows.empty:
        raise TableError(
            "the folders train and test must be there.",
            f"no image below {folder.root} lies in train/CLASS or test/CLASS",
            "unpack the download there, as it is",
        )
    names = {label.casefold(): label for label, _ in _DERMNET}
    rows["label"] = [names.get(label.casefold(), label) for label in rows["label"]]
    note = "the split is by image: the same lesion, even the same picture, stands in both; see panderm check"
    return Prepared(rows, (note,))


DERMNET = Source(
    name="dermnet",
    title="DermNet",
    modality="clinical",
    address="https://www.kaggle.com/datasets/shubhamgoel27/dermnet",
    licence="unclear: the photographs are DermNet's",
    non_commercial=True,
    citation="DermNet skin disease atlas, dermnet.com, as collected on Kaggle by S. Goel (2020)",
    files=(File(("train", "test"), "one folder a class in each"),),
    classes=_DERMNET,
    counts=(
        Count(15_557, "the Kaggle page", split="train"),
        Count(4_002, "the Kaggle page", split="test"),
        Count(19_559, "Yan 2025"),
    ),
    read=_read_dermnet,
    splits="train 15,557; test 4,002",
    note="Watermarks and near-duplicates abound: run panderm check before believing any number.",
)

_TISSUE = _labels("patch16")
_SLIDE = re.compile(r"_(ws_\d+)_\d+\.[a-z]+$", re.I)


def _read_patch16(folder: Folder) -> Prepared:
    table = folder.optional_table("tiles-v2.csv", "tiles_v2.csv", columns=("file", "class", "set"))
    notes = []
    if table is None:
        rows = of_classes(folder, (name for name, _ in _TISSUE)).drop(columns="split")
        notes.append("tiles-v2.csv is not there: classes by folder, and no split")
    else:
        rows = table.rename(columns={"file": "image", "class": "label", "set": "split"})
        rows["split"] = [SPLIT_NAMES.get(cell.strip().casefold(), "") for cell in rows["split"]]
        if (rows["split"] == "").any():
            raise TableError(
                "column set of tiles-v2.csv must be Train, Validation or Test.",
                f"{int((rows['split'] == '').sum()):,} rows are not",
            )
    slides = [_SLIDE.search(name) for name in rows["image"]]
    if all(slides):
        rows["lesion_id"] = [slide[1] for slide in slides if slide]
        notes.append(
            "lesion_id is the slide, from the file's name: tiles of one slide must not be torn apart"
        )
    return Prepared(rows, tuple(notes))


PATCH16 = Source(
    name="patch16",
    title="PATCH16, tiles of stained sections of skin",
    modality="histopathology",
    address="https://doi.org/10.11588/data/7QCR8S",
    licence="as stated at the address",
    non_commercial=True,
    citation=(
        "Kriegsmann K. et al. Deep learning for the detection of anatomical tissue structures and neoplasms "
        "of the skin on scanned histopathological tissue sections. Front Oncol 12, 1022967 (2022). "
        "doi:10.3389/fonc.2022.1022967"
    ),
    files=(
        File(("data/tiles-v2.csv",), "one row a tile, with its class and set", optional=True),
        File(("data/tiles",), "one folder a class; tiles of 395 × 395 pixels"),
    ),
    classes=_TISSUE,
    counts=(
        Count(129_364, "Yan 2025"),
        Count(378, "Yan 2025, slides", "lesions", verified=False),
    ),
    read=_read_patch16,
    splits="train, val and test as the official table says",
    note="Tiles of sections under the microscope, not pictures of skin.",
)

SOURCES = (MEDNODE, DERMNET, PATCH16)
