"""A user's folder, empty."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import Download


@pytest.fixture
def download(tmp_path: Path) -> Download:
    root = tmp_path / "download"
    root.mkdir()
    return Download(root, tmp_path / "made.csv")
