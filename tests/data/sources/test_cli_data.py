"""The verbs `data list`, `data show` and `data prepare`: what is printed, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from miniature import Download
from typer.testing import CliRunner

from panderm import read_table
from panderm.cli import app
from panderm.data.sources import known, prepare
from panderm.data.sources.known import KNOWN
from panderm.data.sources.source import Count


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(app, ["data", *map(str, words)])
    assert "Traceback" not in result.output
    return result


def put_hiba(download: Download) -> None:
    rows = [
        {"isic_id": f"ISIC_{i}", "diagnosis_1": ("Benign", "Malignant")[i % 2], "copyright_license": "CC-BY"}
        for i in range(4)
    ]
    download.table("metadata.csv", rows)
    download.images(*(f"ISIC_{i}.jpg" for i in range(4)))


@pytest.fixture
def small_hiba(monkeypatch: pytest.MonkeyPatch) -> None:
    """HIBA as if four images had been published: the miniature agrees with it."""
    from dataclasses import replace

    hiba = replace(known.named("hiba"), counts=(Count(4, "this test"),))
    monkeypatch.setattr(prepare, "named", lambda name: hiba)


def test_every_dataset_is_listed_and_shown() -> None:
    text = run("list").output
    for source in KNOWN:
        assert source.name in text
        shown = run("show", source.name)
        assert shown.exit_code == 0
        for expected in (source.title, source.address, source.licence, source.citation):
            assert expected in shown.output
    told = json.loads(run("list", "--json").output)["datasets"]
    assert [one["name"] for one in told] == [source.name for source in KNOWN]
    assert json.loads(run("--json").output)["datasets"] == told


def test_a_name_that_is_not_known(download: Download) -> None:
    result = run("prepare", "ham1000", "--from", download.root, "--out", download.out)
    assert result.exit_code == 2
    assert "no dataset is called 'ham1000'; did you mean 'ham10000'?" in result.output


def test_as_published_is_exit_0(download: Download, small_hiba: None) -> None:
    put_hiba(download)
    result = run("prepare", "hiba", "--from", download.root, "--out", download.out)
    assert result.exit_code == 0
    assert "as published" in result.output
    assert f"next: panderm check {download.out} --images {download.root}" in result.output
    assert len(download.written()) == 4


def test_a_difference_is_exit_1_and_the_table_is_there(download: Download) -> None:
    put_hiba(download)
    result = run("prepare", "hiba", "--from", download.root, "--out", download.out)
    assert result.exit_code == 1
    assert "NOT AS PUBLISHED: images: published 1,616" in result.output
    assert len(download.written()) == 4


def test_a_missing_image_is_exit_1_and_skip_missing_mends_it(download: Download, small_hiba: None) -> None:
    put_hiba(download)
    (download.root / "ISIC_2.jpg").unlink()
    words = ("prepare", "hiba", "--from", download.root, "--out", download.out, "--json")
    told = json.loads(run(*words).output)
    assert told["missing"] == ["ISIC_2"]
    assert len(told["findings"]) == 1
    again = run(*words, "--overwrite", "--skip-missing")
    assert again.exit_code == 0
    assert json.loads(again.output)["rows"] == 3


def test_nothing_is_overwritten_unasked(download: Download) -> None:
    put_hiba(download)
    download.out.write_text("mine")
    result = run("prepare", "hiba", "--from", download.root, "--out", download.out)
    assert result.exit_code == 2
    assert download.out.read_text() == "mine"


def test_skip_missing_with_no_image_at_all(download: Download) -> None:
    put_hiba(download)
    for i in range(4):
        (download.root / f"ISIC_{i}.jpg").unlink()
    result = run("prepare", "hiba", "--from", download.root, "--out", download.out, "--skip-missing")
    assert result.exit_code == 2
    assert "none of 4 images is below" in result.output
    assert not download.out.exists()


def test_a_prepared_table_goes_through_split_and_check(
    download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "isic_id": f"ISIC_{i}",
            "diagnosis_1": ("Benign", "Malignant")[i // 2 % 2],
            "patient_id": f"IP_{i // 2}",
            "copyright_license": "CC-BY",
        }
        for i in range(24)
    ]
    download.table("metadata.csv", rows)
    download.images(*(f"ISIC-images/ISIC_{i}.jpg" for i in range(24)))
    monkeypatch.chdir(download.root.parent)
    for command, codes in (
        ("data prepare isic-archive --from download --out made.csv", {0}),
        ("split made.csv --images download --out cut.csv", {0}),
        ("check cut.csv --images download", {0, 1}),  # so few rows are a finding
    ):
        result = CliRunner().invoke(app, [*command.split(), "--json", "--quiet"])
        assert result.exit_code in codes, f"{command}\n{result.output}"
        assert "Traceback" not in result.output
    cut = read_table("cut.csv", images="download", progress=False)
    assert (len(cut), cut.card.patients, cut.classes) == (24, 12, ("benign", "malignant"))
    assert not cut.card.warnings  # no patient in two splits
