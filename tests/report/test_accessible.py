"""Every page by the rules of axe-core in a real browser: light and dark, wide and narrow, all unfolded.

Needs Chromium (apt-get install chromium); skipped, and said, where there is none. axe, and what drives the
browser, come with axe-playwright-python. The browser is offline, and the page's own policy stands aside for
axe alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, sync_playwright
from test_comparison import several
from test_pretraining_page import write_run
from test_report import make_predictions
from test_tables import labels, scored

import panderm
from panderm.data.drawn import DrawnWorld
from panderm.gate.check import check
from panderm.pretraining.page import write_page
from panderm.report import Report
from panderm.report.check_page import CheckPage
from panderm.report.multi_label import MultiLabelReport
from panderm.scores.multi_label import evaluate_labels

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium: no page is read by axe (apt-get install chromium)"
)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """([tags, rules]) => {
    for (const one of document.querySelectorAll("details")) one.open = true;
    for (const one of document.querySelectorAll("tbody, ol, ul, dl"))  // more of the same says no more
        while (one.children.length > 3) one.lastElementChild.remove();
    const only = rules.length ? {type: "rule", values: rules} : {type: "tag", values: tags};
    return axe.run(document, {runOnly: only, resultTypes: ["violations"]});
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def page(embeddings: panderm.Embeddings, world: DrawnWorld, tmp_path: Path) -> Callable[[str], Path]:
    """Make a page of a kind, with all that it can show."""

    def one(to: Path) -> None:
        given = make_predictions(tmp_path / "images", n=24, table={"warnings": ("two splits",)})
        Report(given, scored(given, tmp_path), progress=False).save(to)

    def several_(to: Path) -> None:
        both = several(folder=tmp_path / "images", classes=("a", "b", "c"), n=24)
        Report(both, [scored(given, tmp_path) for given in both], progress=False).save(to)

    def of_labels(to: Path) -> None:
        given = labels()
        MultiLabelReport(given, evaluate_labels(given, draws=40, seed=0, progress=False)).save(to)

    def of_check(to: Path) -> None:
        frame = pd.read_csv(world.csv)
        frame.loc[1, "image"], frame.loc[2, "image"] = frame.loc[0, "image"], "gone.jpg"
        frame.to_csv(tmp_path / "table.csv", index=False)
        CheckPage(check(tmp_path / "table.csv", images=world.images, workers=1, progress=False)).save(to)

    def of_curve(to: Path) -> None:
        out = tmp_path / "curve"
        panderm.curve(embeddings, percent=[50], repeats=2, out=out, C=1.0, draws=40, progress=False)
        (out / "curve.html").rename(to)

    def of_map(to: Path) -> None:
        panderm.map_embeddings(embeddings, method="pca", color=["label"]).save(to, progress=False)

    def of_pretraining(to: Path) -> None:
        write_page(write_run(tmp_path / "run", alarm="the loss has not moved")).rename(to)

    made = {
        "one": one, "several": several_, "labels": of_labels, "check": of_check, "curve": of_curve,
        "map": of_map, "pretraining": of_pretraining,
    }  # fmt: skip

    def make(kind: str) -> Path:
        made[kind](tmp_path / f"{kind}.html")
        return tmp_path / f"{kind}.html"

    return make


def read(browser: Browser, page: Path, *, width: int, dark: bool, rules: list[str]) -> list[str]:
    """Return what axe says against a page, and whether it is wider than the window."""
    scheme = "dark" if dark else "light"
    room = browser.new_context(
        bypass_csp=True, offline=True, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    opened = room.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    opened.goto(page.as_uri())
    opened.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    found: dict[str, Any] = opened.evaluate(RUN, [RULES, rules])
    for one in found["violations"]:
        complaints += [
            f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}" for node in one["nodes"][:4]
        ]
    wide = opened.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    room.close()
    return complaints + ([f"{wide} pixels wider than the window"] if wide > 0 else [])


@pytest.mark.parametrize("kind", ["one", "several", "labels", "check", "curve", "map", "pretraining"])
def test_axe_finds_nothing(browser: Browser, page: Callable[[str], Path], kind: str) -> None:
    made = page(kind)
    assert read(browser, made, width=1200, dark=False, rules=[]) == []
    # In the dark only colours differ, in a narrow window only what scrolls and how close it lies.
    rules = ["color-contrast", "scrollable-region-focusable", "target-size"]
    assert read(browser, made, width=400, dark=True, rules=rules) == []


def test_axe_would_find_something(browser: Browser, page: Callable[[str], Path], tmp_path: Path) -> None:
    text = page("labels").read_text("utf-8")
    spoilt = text.replace("--muted: #59636e", "--muted: #d0d0d0").replace('<html lang="en">', "<html>")
    spoilt = spoilt.replace('<h2 id="scores">', '<h5 id="scores">').replace("viewport", "no-viewport")
    (tmp_path / "spoilt.html").write_text(spoilt, encoding="utf-8")
    found = read(browser, tmp_path / "spoilt.html", width=1200, dark=False, rules=[])
    assert {one.partition(":")[0] for one in found} >= {"color-contrast", "html-has-lang", "heading-order"}
