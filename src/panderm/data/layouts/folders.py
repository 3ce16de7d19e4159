"""One folder a class, with train, val and test above where there is a split."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from panderm.data.layouts.layout import SPLIT_NAMES, Found, printable, with_splits
from panderm.data.sources.folder import Folder
from panderm.errors import TableError, plural, some

_NO_CLASSES = {"mask", "masks", "segmentation", "segmentations", "annotation", "annotations", "images", "img"}


def read_folders(root: Path | str) -> Found:
    """Read the images of a folder that has one folder a class.

    The class is the first folder below the split, or below what all images have in common; folders further
    down, one a patient for example, make no difference. A split is a folder called train, val or test, or as
    people call them (training, valid, validation, dev, testing).

    Raises:
        TableError: no such folder, no images, or not one folder a class.
    """
    folder = Folder(root)
    images = folder.images_below()
    if not images:
        raise TableError(
            "a folder must hold images.",
            f"{folder.root} holds none",
            "name the folder above the folders of the classes with --from",
        )
    above = [image.split("/")[:-1] for image in images]
    shared = _shared(above)
    found = [_placed(parts[shared:] or parts[-1:]) for parts in above]
    labels = [printable(label) for _, label in found]
    if not any(labels):
        raise TableError(
            "there must be one folder a class.",
            f"the {plural(len(images), 'image')} of {folder.root} lie in no folder of their own",
            "put the images of each class into a folder named after it, or make a CSV with a label column",
        )
    rows = pd.DataFrame({"image": images, "label": labels}, dtype=str)
    splits, notes = with_splits([split for split, _ in found])
    if splits is not None:
        rows["split"] = splits
    bare = [image for image, label in zip(images, labels, strict=True) if not label]
    findings = [f"{plural(len(bare), 'image')} in no folder of a class: {some(bare)}"] if bare else []
    return Found(rows, tuple(notes), (*findings, *_doubtful(sorted({*labels} - {""}))))


def _doubtful(classes: list[str]) -> list[str]:
    """Return what is odd about folders that were read as classes, a sentence each."""
    found = []
    masks = [name for name in classes if name.casefold() in _NO_CLASSES]
    if masks:
        n = "a folder was" if len(masks) == 1 else "folders were"
        found.append(f"{n} read as a class that may be none: {some(masks)}; keep it out of the --from folder")
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(" ".join(re.split(r"[\s_-]+", name.casefold())), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            found.append(f"classes that differ in nothing but case and spaces: {some(names)}")
    return found


def _shared(above: list[list[str]]) -> int:
    """Return how many folders every image has above it, splits and classes aside."""
    n = 0
    for names in zip(*above, strict=False):
        if len(set(names)) > 1 or names[0].casefold() in SPLIT_NAMES:
            break
        n += 1
    return n


def _placed(parts: list[str]) -> tuple[str, str]:
    """Return the split and the class of an image in these folders."""
    at = next((i for i, name in enumerate(parts) if name.casefold() in SPLIT_NAMES), None)
    if at is None:
        return "", parts[0] if parts else ""
    below = parts[at + 1 :]
    return parts[at], below[0] if below else ""
