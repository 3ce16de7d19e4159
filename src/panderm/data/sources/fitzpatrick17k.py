"""Fitzpatrick17k: photographs of two atlases, with the skin type of the person."""

from __future__ import annotations

from panderm.data.diagnoses import read_map
from panderm.data.sources.folder import Folder
from panderm.data.sources.source import Count, File, Prepared, Source

_PAPER = "Groh 2021"
_COLUMNS = ("md5hash", "fitzpatrick_scale", "label", "nine_partition_label", "three_partition_label")
_CLASSES = tuple(
    (row.label, row.label)
    for row in read_map()
    if row.taxonomy == "fitzpatrick17k" and "partition_label" not in row.note
)


def _read(folder: Folder) -> Prepared:
    rows = folder.table("fitzpatrick17k.csv", columns=_COLUMNS, known_by_columns=True)
    # Images are named by their hash, or, as some downloaders do, by the letters of their address.
    if "url_alphanum" in rows:
        names = zip(rows["md5hash"], rows["url_alphanum"], strict=True)
        rows["image"] = [a if folder.image(a) or not b or not folder.image(b) else b for a, b in names]
    else:
        rows["image"] = rows["md5hash"]
    rows["tone"] = rows.pop("fitzpatrick_scale").replace("-1", "")
    notes = [
        "the labels are those of two web atlases, and many images are there twice: panderm check names them"
    ]
    return Prepared(rows, tuple(notes))


FITZPATRICK17K = Source(
    name="fitzpatrick17k",
    title="Fitzpatrick17k",
    modality="clinical",
    address="https://github.com/mattgroh/fitzpatrick17k",
    licence="CC BY-NC-SA 3.0",
    non_commercial=True,
    citation=(
        "Groh M. et al. Evaluating Deep Neural Networks Trained on Clinical Images in Dermatology with the "
        "Fitzpatrick 17k Dataset. CVPR Workshops (2021). arXiv:2104.09957"
    ),
    files=(
        File(("fitzpatrick17k.csv",), "one row an image, with the address of each"),
        File(("images",), "the photographs, named by their hash; some addresses no longer answer"),
    ),
    classes=_CLASSES,
    counts=(Count(16_577, _PAPER),),
    read=_read,
    labels=(
        ("nine_partition_label", "nine partitions"),
        ("three_partition_label", "benign, malignant, non-neoplastic"),
    ),
    note="tone is the Fitzpatrick type, 1 to 6. No patients are known.",
)

SOURCES = (FITZPATRICK17K,)
