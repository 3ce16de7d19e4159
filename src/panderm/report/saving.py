"""What a report can be saved as: the page, its tables and points, and a PDF of the page."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from panderm.report.page import Page
from panderm.report.tables import Results, Source, require_free, write_tables
from panderm.storage import refuse_existing, write_text


class Saved(abc.ABC):
    """A page, made once, in every form in which it leaves."""

    @abc.abstractmethod
    def _made(self) -> Page:
        """Make the page."""

    @abc.abstractmethod
    def _results(self) -> list[Results]:
        """Return its result tables, from scores and not from words."""

    @abc.abstractmethod
    def _chains(self) -> dict[str, Any]:
        """Return by model every file that its numbers rest on."""

    @abc.abstractmethod
    def _sources(self) -> Sequence[Source]:
        """Return what the numbers rest on."""

    @cached_property
    def _page(self) -> Page:
        return self._made()

    def html(self) -> str:
        """Return the complete page."""
        return self._page.html

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the page, whole or not at all, and return its path.

        Raises:
            ArtifactError: the file exists and ``overwrite`` is not set, or it cannot be written.
        """
        target = Path(path)
        refuse_existing(target, overwrite=overwrite)  # before the figures are drawn, not after
        write_text(target, self.html(), overwrite=overwrite)
        return target

    def save_tables(self, folder: Path | str, *, overwrite: bool = False) -> list[Path]:
        """Write every plotted point and every result table, a whole folder or none, and return the files.

        Points are CSV, one row a point. Result tables are CSV, unrounded, with ``value``, ``low``, ``high``
        and ``n``; and Markdown and LaTeX (booktabs), as ``value (low–high)``. ``README.md`` says what each
        file is.

        Args:
            folder: to write.
            overwrite: replace the files that an earlier report wrote there; others are kept.

        Raises:
            ArtifactError: the folder exists and ``overwrite`` is not set, it is not one of these, or it
                cannot be written.
        """
        require_free(Path(folder), overwrite=overwrite)
        page = self._page
        return write_tables(
            Path(folder),
            self._results(),
            page.drawings,
            page.sections,
            self._sources(),
            self._chains(),
            overwrite=overwrite,
        )

    def save_pdf(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Print the page on A4, by the Chromium, Chrome or Edge of this machine, and return the path.

        Raises:
            UsageError: there is none of these browsers.
            ArtifactError: the file exists and ``overwrite`` is not set, it cannot be written, or the browser
                failed.
        """
        from panderm.report.pdf import print_pdf

        target = Path(path)
        refuse_existing(target, overwrite=overwrite)
        print_pdf(self.html, target, overwrite=overwrite)
        return target
