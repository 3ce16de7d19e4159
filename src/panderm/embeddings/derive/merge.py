"""Several embeddings folders of one encoder as one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from panderm.data.columns import in_order
from panderm.data.table import Table
from panderm.embeddings.derive.folder import Taken, name_of, opened, write_taken
from panderm.embeddings.opened import Embeddings
from panderm.errors import PandermWarning, ParentsError, UsageError, plural, some
from panderm.storage import refuse_existing

APART = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2, "int8": 5e-2}
"""How far two vectors of one image may lie apart, as a share of their length: what other batches and other
machines do. Seen on 32 images, batches of 1 and of 8: 6e-7 in fp32, 5e-5 in bf16; bf16 to fp32 2.6e-2."""


def merge_embeddings(
    embeddings: Sequence[Embeddings | Path | str],
    *,
    out: Path | str,
    overwrite: bool = False,
    progress: bool = True,
) -> Embeddings:
    """Write several embeddings folders of one encoder as one folder; no image is encoded.

    The rows follow each other in the order of the folders. An image that is in several of them (same name,
    same sha256) is kept once, at its first place, if its vectors and its row agree. Classes are united in
    their stated order. The table of all rows, with every column of the CSVs that were embedded where
    these are still as they were, lies in the new folder as ``table.csv``; the card names the folders.
    Patch tokens come along where every folder has them.

    Args:
        embeddings: two folders or more, or opened embeddings.
        out: the folder to write, ``C.emb``.
        overwrite: replace a folder of embeddings that exists.
        progress: show progress on standard error.

    Returns:
        All embeddings, opened from ``out``.

    Raises:
        ParentsError: another encoder, preprocessing or precision; one name for two images, or two
            vectors, labels or splits for one image; classes in two orders; labels or splits in some of the
            folders only.
        UsageError: fewer than two folders.
        ArtifactError: a folder that cannot be opened, or ``out`` exists.

    Example:
        >>> both = panderm.merge_embeddings(["ham.emb", "isic.emb"], out="both.emb")  # doctest: +SKIP
    """
    target = Path(out)
    refuse_existing(target, overwrite=overwrite)
    if len(embeddings) < 2:
        raise UsageError("two folders or more can be merged.", f"found {len(embeddings)}")
    stores = [opened(one, target) for one in embeddings]
    require_one_encoder(stores)
    _require_same_roles(stores)
    classes = _united([(name_of(store), store.rows.classes) for store in stores])
    own = [set(store.rows.classes) for store in stores]
    if all(own) and len(set().union(*own)) == sum(len(names) for names in own):
        words = "; ".join(f"{name_of(store)}: {some(store.rows.classes)}" for store in stores)
        hint = "panderm data map puts labels of several datasets into the same words"
        warnings.warn(f"no class is in two of the folders ({words}); {hint}", PandermWarning, stacklevel=2)
    taken = [Taken(stores[0], np.arange(len(stores[0])))]
    place = {str(image): (0, i) for i, image in enumerate(stores[0].rows.image)}
    shared = 0
    for k, store in enumerate(stores[1:], 1):
        new, again = _told_apart(store.rows, place)
        _require_agreement(stores, k, again, place)
        shared += len(again)
        place |= {str(store.rows.image[i]): (k, int(i)) for i in new}
        taken.append(Taken(store, new))
    if shared:
        told = f"{plural(shared, 'image')} in several of the folders: kept once"
        warnings.warn(told, PandermWarning, stacklevel=2)
    with_tokens = [store.card.tokens is not None for store in stores]
    if any(with_tokens) and not all(with_tokens):
        without = [name_of(s) for s, has in zip(stores, with_tokens, strict=True) if not has]
        warnings.warn(f"no patch tokens: {some(without)} has none", PandermWarning, stacklevel=2)
    locks = {store.card.table.lock for store in stores}
    return write_taken(
        taken,
        target,
        classes=classes,
        lock=locks.pop() if len(locks) == 1 else None,
        overwrite=overwrite,
        progress=progress,
    )


def require_one_encoder(stores: Sequence[Embeddings]) -> None:
    """Raise :class:`ParentsError` naming what differs where folders are not of one encoder and decoding."""
    first, *others = (_decisive(store) for store in stores)
    for store, other in zip(stores[1:], others, strict=True):
        differ = [key for key in first if first[key] != other[key]]
        if differ:
            raise ParentsError(
                "embeddings of one folder must come from one encoder.",
                [
                    f"{name_of(one)} and {name_of(two)} differ in {key}: {_short(a[key])}, {_short(b[key])}"
                    for one, two, a, b in [(stores[0], store, first, other)]
                    for key in differ
                ],
                "embed the images of one of them again, in the way of the other",
            )


def _decisive(store: Embeddings) -> dict[str, object]:
    encoder = store.card.encoder.model_dump(exclude={"weights", "account", "licence", "citation", "source"})
    return {**encoder, "exact decoding": store.card.decoding.exact}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _require_same_roles(stores: Sequence[Embeddings]) -> None:
    for role in ("label", "split"):
        having = [store.card.table.roles.get(role) is not None for store in stores]
        if any(having) and not all(having):
            without = [name_of(s) for s, has in zip(stores, having, strict=True) if not has]
            raise ParentsError(
                f"all of the folders, or none, must have a {role}.",
                f"without: {some(without)}",
                "add the column to their tables and run panderm embed again: vectors are kept",
            )


def _united(orders: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """Return all classes in an order that keeps that of every folder."""
    left = list(dict.fromkeys(name for _, order in orders for name in order))
    if all(order == in_order(set(order)) for _, order in orders):
        return in_order(set(left))
    found: list[str] = []
    while left:
        behind = {name for _, order in orders for name in [x for x in order if x in left][1:]}
        first = next((name for name in left if name not in behind), None)
        if first is None:
            raise ParentsError(
                "the classes of all folders must stand in one order.",
                [f"{told}: {', '.join(order)}" for told, order in orders],
                "run panderm embed again with --classes for one of them: vectors are kept",
            )
        left.remove(first)
        found.append(first)
    return tuple(found)


def _told_apart(
    rows: Table, place: dict[str, tuple[int, int]]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions of images that are new, and of those that an earlier folder has."""
    again = np.array([str(image) in place for image in rows.image], dtype=bool)
    return np.flatnonzero(~again), np.flatnonzero(again)


def _require_agreement(
    stores: Sequence[Embeddings],
    k: int,
    again: npt.NDArray[np.intp],
    place: dict[str, tuple[int, int]],
) -> None:
    """Raise :class:`ParentsError` naming the images whose file, row or vector is another in two folders."""
    here = stores[k]
    found: dict[str, list[str]] = {}
    for i in again:
        name = str(here.rows.image[i])
        j, at = place[name]
        there = stores[j]
        if here.rows.sha256[i] != there.rows.sha256[at]:
            what = "another file of the same name"
        elif not _near(there, at, here, int(i)):
            what = "another vector of the same file"
        else:
            differ = [
                role
                for role in ("split", "label", "patient", "group")
                if getattr(here.rows, role)[i] != getattr(there.rows, role)[at]
            ]
            if not differ:
                continue
            what = f"another {' and '.join(differ)}"
        found.setdefault(f"{name_of(there)} and {name_of(here)}: {what}", []).append(name)
    if found:
        raise ParentsError(
            "an image of several folders must be the same in all of them.",
            [f"{told}: {plural(len(names), 'image')}: {some(names)}" for told, names in found.items()],
            "leave them out of one of the folders with panderm embeddings select, or rename the images",
        )


def _near(one: Embeddings, i: int, other: Embeddings, j: int) -> bool:
    a, b = (np.asarray(emb.vectors[at], dtype=np.float64) for emb, at in ((one, i), (other, j)))
    if np.array_equal(a, b, equal_nan=True):
        return True
    length = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
    return float(np.linalg.norm(a - b)) <= APART[one.card.encoder.precision] * length
