"""The public datasets that are known, as a table to read."""

from __future__ import annotations

from panderm.data.sources import (
    class_folders,
    ddi,
    derm7pt,
    fitzpatrick17k,
    ham10000,
    isic2018,
    isic2019,
    isic2020,
    isic2024,
    isic_archive,
    milk10k,
    padufes20,
    ph2,
)
from panderm.data.sources.source import Source
from panderm.errors import UsageError, did_you_mean

KNOWN: tuple[Source, ...] = (
    *ham10000.SOURCES,
    *isic_archive.SOURCES,
    *isic2018.SOURCES,
    *isic2019.SOURCES,
    *isic2020.SOURCES,
    *isic2024.SOURCES,
    *milk10k.SOURCES,
    *padufes20.SOURCES,
    *ddi.SOURCES,
    *derm7pt.SOURCES,
    *fitzpatrick17k.SOURCES,
    *ph2.SOURCES,
    *class_folders.SOURCES,
)


def named(name: str) -> Source:
    """Return the dataset of a name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    names = [source.name for source in KNOWN]
    if name not in names:
        raise UsageError(
            f"no dataset is called {name!r}{did_you_mean(name, names)}",
            f"known: {', '.join(names)}",
            "panderm data list shows them all",
        )
    return KNOWN[names.index(name)]
