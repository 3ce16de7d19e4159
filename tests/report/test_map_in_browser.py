"""The map's page in a real browser: what is under the pointer, lasso, legend, CSV, keys and fingers.

Needs Chromium (apt-get install chromium); skipped, and said, where there is none.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import panderm
from panderm.report.map.thumbnails import make_thumbnails

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
]

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium: the map's page is not tried in a browser (apt-get install chromium)"
)


class Browser:
    """One page of a browser without a window, spoken to over two pipes in its own protocol."""

    def __init__(self, home: Path) -> None:
        self.downloads = home / "downloads"
        self.downloads.mkdir(parents=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 20) for one in (theirs_in, theirs_out)]

        def place() -> None:
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [str(PROGRAM), *FLAGS, f"--user-data-dir={home / 'profile'}", "--window-size=1300,1000"],
            preexec_fn=place,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for one in (theirs_in, theirs_out, *high):
            os.close(one)
        self._held, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for name in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{name}.enable")
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message | session).encode() + b"\0")
        while True:
            while b"\0" not in self._held:
                more = os.read(self._in, 1 << 20)
                assert more, "the browser has gone"
                self._held += more
            text, _, self._held = self._held.partition(b"\0")
            got: dict[str, Any] = json.loads(text)
            if got.get("id") == self._number:
                assert "error" not in got, got["error"]
                result: dict[str, Any] = got["result"]
                return result
            self.events.append(got)

    def open(self, page: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        self.wait(lambda: self.value("document.readyState") == "complete")
        self.settle()

    def value(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, met: Any, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until two frames were drawn."""
        self.value("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")

    def text(self, identity: str) -> str:
        return str(self.value(f"document.getElementById('{identity}').innerText"))

    def mouse(self, kind: str, place: tuple[float, float], **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **more)

    def drag(
        self,
        places: list[tuple[float, float]],
        *,
        button: str = "left",
        shift: bool = False,
        alt: bool = False,
    ) -> None:
        more = {"button": button, "modifiers": 8 * shift + alt}
        held = {"left": 1, "right": 2}[button]
        self.mouse("mousePressed", places[0], clickCount=1, buttons=held, **more)
        for place in places[1:]:
            self.mouse("mouseMoved", place, buttons=held, **more)
        self.mouse("mouseReleased", places[-1], clickCount=1, **more)
        self.settle()

    def key(self, key: str) -> None:
        more = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.settle()

    def click(self, selector: str) -> None:
        self.value(f"document.querySelector({json.dumps(selector)}).click()")
        self.settle()

    def picture(self) -> np.ndarray[Any, Any]:
        """Return what the map shows, RGB."""
        taken = self.value("document.getElementById('points').toDataURL()").partition(",")[2]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(taken))).convert("RGB"))

    def close(self) -> None:
        self._session = ""
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        self._process.wait(30)
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def drawn(embeddings: panderm.Embeddings) -> panderm.EmbeddingMap:
    return panderm.map_embeddings(embeddings, method="pca", color=["label"])


@pytest.fixture(scope="module")
def page(drawn: panderm.EmbeddingMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "map.html"
    drawn.save(path, progress=False)
    return path


class Places:
    """Where each point lies in the window, by an arithmetic of the test's own."""

    def __init__(self, browser: Browser, drawn: panderm.EmbeddingMap) -> None:
        box = browser.value(
            "(() => { const s = document.getElementById('stage'), r = s.getBoundingClientRect();"
            " return [r.left + s.clientLeft, r.top + s.clientTop, s.clientWidth, s.clientHeight]; })()"
        )
        self.left, self.top, self.wide, self.high = box
        xy = drawn.coordinates
        low, span = xy.min(axis=0), np.ptp(xy, axis=0)
        scale = min((self.wide - 28) / span[0], (self.high - 28) / span[1])
        self.x = self.left + self.wide / 2 + (xy[:, 0] - low[0] - span[0] / 2) * scale
        self.y = self.top + self.high / 2 - (xy[:, 1] - low[1] - span[1] / 2) * scale

    def of(self, row: int) -> tuple[float, float]:
        return float(self.x[row]), float(self.y[row])

    def box(self, low: float, high: float) -> list[tuple[float, float]]:
        """Return a loop around all whose x lies between two shares of the width; and who is inside."""
        a, b = self.left + low * self.wide, self.left + high * self.wide
        c, d = self.top + 2, self.top + self.high - 2
        return [(a, c), (b, c), (b, d), (a, d)]

    def inside(self, low: float, high: float) -> np.ndarray[Any, Any]:
        return (self.x > self.left + low * self.wide) & (self.x < self.left + high * self.wide)


@pytest.fixture
def places(browser: Browser, page: Path, drawn: panderm.EmbeddingMap) -> Places:
    browser.open(page)
    return Places(browser, drawn)


def chosen(browser: Browser, drawn: panderm.EmbeddingMap) -> set[str]:
    browser.value("(() => { while (!document.getElementById('more').hidden) more.click(); })()")
    return set(browser.value("[...document.querySelectorAll('#sheet .name')].map((one) => one.textContent)"))


def test_the_page_works_offline_and_without_a_complaint(browser: Browser, places: Places, page: Path) -> None:
    browser.drag(places.box(0.1, 0.6))
    browser.click("#csv")
    asked = {
        e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} <= {page.as_uri()}
    wrong = [e for e in browser.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert not wrong


def test_the_pointer_finds_the_image(browser: Browser, places: Places, drawn: panderm.EmbeddingMap) -> None:
    alone = np.hypot(places.x[:, None] - places.x, places.y[:, None] - places.y) + 1e9 * np.eye(len(drawn))
    for row in np.argsort(-alone.min(axis=1))[:3].tolist():
        browser.mouse("mouseMoved", places.of(row))
        told = browser.text("tip")
        assert told.startswith(drawn.rows.image[row])
        assert f"label: {drawn.rows.label[row]}" in told
        shown = browser.value("document.querySelector('#tip img').src.split(',')[1]")
        assert shown == make_thumbnails(drawn.rows.select(np.array([row])), progress=False).pictures[0]
    browser.mouse("mouseMoved", (places.left + 3, places.top + 3))
    assert browser.value("document.getElementById('tip').hidden")


def test_a_lasso_selects_adds_and_takes_away(
    browser: Browser, places: Places, drawn: panderm.EmbeddingMap, page: Path
) -> None:
    names = drawn.rows.image
    first, second = places.inside(0.1, 0.45), places.inside(0.3, 0.7)
    browser.drag(places.box(0.1, 0.45))
    assert chosen(browser, drawn) == set(names[first])
    assert browser.text("count").startswith(f"{first.sum()} images of 90")
    rows = browser.value(
        "[...document.querySelectorAll('#classes tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    counts = {row[0]: int(row[1]) for row in rows}
    labels = drawn.rows.label[first].tolist()
    assert counts == {name: labels.count(name) for name in set(labels)}

    browser.drag(places.box(0.3, 0.7), shift=True)
    assert chosen(browser, drawn) == set(names[first | second])
    browser.drag(places.box(0.1, 0.45), alt=True)
    wanted = second & ~first
    assert chosen(browser, drawn) == set(names[wanted])

    for old in browser.downloads.iterdir():
        old.unlink()
    browser.click("#csv")
    file = browser.downloads / "world_selected.csv"
    browser.wait(file.is_file)
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    assert frame["image"].tolist() == names[wanted].tolist()
    assert frame["label"].tolist() == drawn.rows.label[wanted].tolist()
    assert frame["split"].tolist() == drawn.rows.split[wanted].tolist()
    np.testing.assert_allclose(frame[["x", "y"]].astype(float), drawn.coordinates[wanted], atol=1e-5)
    # It can be joined to the table it came from.
    table = pd.read_csv(drawn.card.table.csv, dtype=str, keep_default_na=False).set_index("image")
    assert frame["site"].tolist() == table.loc[frame["image"], "site"].tolist()

    browser.click("#clear")
    assert browser.text("count").startswith("Nothing is selected")


def test_the_legend_hides_a_class_and_nothing_hidden_is_selected(
    browser: Browser, places: Places, drawn: panderm.EmbeddingMap
) -> None:
    before = browser.picture()
    blue = np.array([42, 100, 214])
    of_first = (np.abs(before.astype(int) - blue).max(axis=2) < 8).sum()
    assert of_first > 50
    browser.click("#legend li button")
    after = browser.picture()
    assert (np.abs(after.astype(int) - blue).max(axis=2) < 8).sum() == 0
    assert (
        browser.value("document.querySelector('#legend li button').getAttribute('aria-pressed')") == "false"
    )
    browser.click("#view")
    first = drawn.rows.classes[0]
    assert chosen(browser, drawn) == set(drawn.rows.image[drawn.rows.label != first])
    browser.click("#all")
    browser.click("#legend li .only")
    browser.click("#view")
    assert chosen(browser, drawn) == set(drawn.rows.image[drawn.rows.label == first])


def test_wheel_and_buttons_zoom_and_the_right_button_moves(browser: Browser, places: Places) -> None:
    whole = browser.value("({...view})")
    pointer = (places.left + 200, places.top + 100)
    browser.mouse("mouseWheel", pointer, deltaX=0, deltaY=-200)
    browser.settle()
    near = browser.value("({...view})")
    assert near["s"] > 1.2 * whole["s"]
    # What was under the pointer stays there.
    for axis, at in (("x", 200), ("y", 100)):
        here = [(at - v[axis]) / v["s"] for v in (whole, near)]
        assert here[0] == pytest.approx(here[1], abs=0.002)
    browser.drag([pointer, (pointer[0] + 60, pointer[1] + 30)], button="right")
    moved = browser.value("({...view})")
    assert (moved["x"] - near["x"], moved["y"] - near["y"]) == pytest.approx((60, 30))
    assert browser.text("count").startswith("Nothing is selected")
    browser.click("#whole")
    assert browser.value("({...view})") == whole


def test_keys_are_enough(browser: Browser, places: Places, drawn: panderm.EmbeddingMap) -> None:
    browser.value("document.getElementById('stage').focus()")
    whole = browser.value("view.s")
    browser.key("+")
    assert browser.value("view.s") > whole
    browser.key("0")
    assert browser.value("view.s") == whole
    browser.key("Enter")
    assert len(chosen(browser, drawn)) == 90
    browser.key("Escape")
    assert browser.text("count").startswith("Nothing is selected")


def test_two_fingers_zoom_and_one_draws(
    browser: Browser, places: Places, drawn: panderm.EmbeddingMap
) -> None:
    def touch(kind: str, *at: tuple[float, float]) -> None:
        points = [
            {"x": places.left + x * places.wide, "y": places.top + y * places.high, "id": i}
            for i, (x, y) in enumerate(at)
        ]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    whole = browser.value("view.s")
    touch("touchStart", (0.4, 0.5), (0.6, 0.5))
    touch("touchMove", (0.35, 0.5), (0.65, 0.5))
    touch("touchMove", (0.3, 0.5), (0.7, 0.5))
    touch("touchEnd")
    browser.settle()
    assert browser.value("view.s") == pytest.approx(2 * whole, rel=0.05)
    assert browser.text("count").startswith("Nothing is selected")
    browser.click("#whole")
    touch("touchStart", (0.01, 0.01))
    for at in ((0.5, 0.01), (0.5, 0.99), (0.01, 0.99)):
        touch("touchMove", at)
    touch("touchEnd")
    browser.settle()
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert chosen(browser, drawn) == set(drawn.rows.image[places.inside(0, 0.5)])


def test_the_menu_colours_by_another_column(browser: Browser, places: Places) -> None:
    before = browser.picture()
    names = browser.value("[...document.getElementById('colour').options].map((one) => one.text)")
    assert names[0] == "label"
    assert {"split", "site", "tone"} <= set(names)
    browser.value(
        f"(() => {{ colour.value = '{names.index('site')}'; colour.dispatchEvent(new Event('change')); }})()"
    )
    browser.settle()
    assert browser.text("legend-title") == "site"
    assert (browser.picture() != before).any()


def test_names_in_a_table_do_nothing(
    browser: Browser, embeddings: panderm.Embeddings, tmp_path: Path
) -> None:
    evil = "<img src=x onerror=window.harm=1></script><script>window.harm=1</script>"
    csv = tmp_path / "evil.csv"
    age = [None, *np.linspace(20, 80, 89).round(1)]
    names = [f"{evil}{i % 2}" for i in range(90)]
    pd.DataFrame({"image": embeddings.rows.image, evil: names, "age": age}).to_csv(csv, index=False)
    found = panderm.map_embeddings(embeddings, method="pca", columns=csv, color=[evil, "age"])
    found.save(tmp_path / "map.html", thumbnails=0)
    browser.open(tmp_path / "map.html")
    browser.click("#view")
    row = int(np.abs(found.coordinates).sum(axis=1).argmax())
    browser.mouse("mouseMoved", Places(browser, found).of(row))
    assert evil in browser.text("tip")
    assert evil in browser.text("legend")
    assert browser.value("window.harm === undefined")
    browser.value("(() => { colour.value = '1'; colour.dispatchEvent(new Event('change')); })()")
    browser.settle()
    assert browser.text("legend-title") == "age"
    assert "(empty)" in browser.text("legend")
    assert "89" in browser.text("classes")
    assert browser.value("window.harm === undefined")
