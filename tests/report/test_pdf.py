"""The page on paper: whole or absent, made by the browser of the machine, without a network."""

from __future__ import annotations

import re
import shutil
import stat
import sys
from pathlib import Path

import pytest
from test_report import make_predictions
from typer.testing import CliRunner

from panderm.cli import app
from panderm.errors import ArtifactError, UsageError
from panderm.report import Report, pdf
from panderm.scores import evaluate

here = next(filter(None, map(shutil.which, pdf.NAMES)), None)
browser = pytest.mark.skipif(
    here is None, reason="no Chromium, Chrome or Edge: no page is printed (apt-get install chromium)"
)
posix = pytest.mark.skipif(sys.platform == "win32", reason="the browser is played by a shell script")


@pytest.fixture(scope="module")
def report():
    given = make_predictions(n=40)
    return Report(given, evaluate(given, draws=40, scores_only=True, progress=False), progress=False)


@browser
def test_a_page_is_printed_on_a4_with_its_title_and_tags(report, tmp_path):
    path = report.save_pdf(tmp_path / "report.pdf")
    held = path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["report.pdf"]
    boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[([\d. ]+)\]", held)}
    assert len(boxes) == 1
    left, below, right, above = boxes.pop()
    assert (right - left, above - below) == pytest.approx((595.3, 841.9), abs=1)
    pages = len(re.findall(rb"/Type /Page\b", held))
    assert 3 < pages < 40
    for mark in (b"/StructTreeRoot", b"/Marked true", b"/Outlines", b"/Lang", b"/Title (skin: small, probe)"):
        assert mark in held, mark
    assert b"/JavaScript" not in held
    with pytest.raises(ArtifactError, match="exist already"):
        report.save_pdf(path)
    assert path.read_bytes() == held


def test_without_a_browser_it_says_what_to_install(report, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(pdf, "PLACES", ())
    with pytest.raises(UsageError, match="apt-get install chromium"):
        report.save_pdf(tmp_path / "report.pdf")
    report.predictions.save(tmp_path / "a.pred")
    words = ["report", str(tmp_path / "a.pred"), "--out", str(tmp_path / "a.html")]
    done = CliRunner().invoke(app, [*words, "--pdf", str(tmp_path / "a.pdf")])
    assert done.exit_code == 2
    assert "--pdf needs Chromium, Chrome or Edge" in done.output
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pred"]


def played(folder: Path, script: str) -> Path:
    """Write a shell script in the place of a browser; its last-but-one word is --print-to-pdf=FILE."""
    file = folder / "chromium"
    file.write_text(
        '#!/bin/sh\nfor one in "$@"; do case $one in --print-to-pdf=*) out="${one#*=}";; esac; done\n'
        f"{script}\n"
    )
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@posix
@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'no sandbox for you' >&2; exit 1", "no sandbox for you"),
        ("exit 0", "it said nothing, and ended with 0"),
        ("printf '%%PDF-1.4 half' > \"$out\"", "no whole PDF"),
    ],
)
def test_a_browser_that_fails_leaves_nothing(report, tmp_path, monkeypatch, script, found):
    (tmp_path / "bin").mkdir()
    program = played(tmp_path / "bin", script)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match=found):
        report.save_pdf(tmp_path / "out" / "report.pdf")
    assert list((tmp_path / "out").iterdir()) == []


@posix
def test_the_browser_is_kept_offline_and_prints_the_page_itself(report, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    script = (
        f'echo "$@" > {tmp_path}/words; for last; do :; done; cp "${{last#file://}}" {tmp_path}/seen.html; '
    )
    program = played(tmp_path / "bin", script + 'printf "%%PDF-1.4\\n%%%%EOF\\n" > "$out"')
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    report.save_pdf(tmp_path / "report.pdf")
    words = (tmp_path / "words").read_text()
    for flag in (
        "--headless",
        "--disable-background-networking",
        "MAP * ~NOTFOUND",
        "--no-pdf-header-footer",
    ):
        assert flag in words
    assert (tmp_path / "seen.html").read_text("utf-8") == report.html()
