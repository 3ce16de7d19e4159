"""A matplotlib drawing as SVG for a page: own ids, the page's colours, the same bytes each time."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

import matplotlib.style
from matplotlib.figure import Figure

# Drawn with the light value; the page's style sheet may set the variable to another one, for dark screens.
INK = "#1b1f24"
MUTED = "#59636e"
LINE = "#d5dae0"
HEAT = "#08306b"
ON_HEAT = "#fefefe"
# Six colours told apart under protanopia, deuteranopia and tritanopia (CIE76 distance of 18 or more).
SERIES = ("#2a64d6", "#dd5425", "#0f9478", "#7d1538", "#c95fc6", "#33265c")
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    HEAT: "--heat",
    ON_HEAT: "--on-heat",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES, start=1)},
}
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "panderm",
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$a$"
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "xtick.major.width": 0.7,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
    "ytick.major.width": 0.7,
}
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_DECIMALS = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
# matplotlib's settings and Python's warning filters belong to the whole process.
_lock = threading.Lock()


def to_svg(draw: Callable[[], Figure], *, name: str, title: str, description: str) -> str:
    """Draw a figure and return it as one ``<svg>`` element for an HTML page.

    Args:
        draw: makes the figure; called under this module's style, whatever the user's own is.
        name: prefix of every id inside; unique in the page, letters, digits and hyphens.
        title: what the figure is, a few words.
        description: what it shows, for those who cannot see it.

    Returns:
        SVG whose text stays text, which is as wide as the page lets it (``--natural`` holds its own width),
        and whose colours follow the page's variables (``--ink``, ``--series-1`` …) where it sets them.
    """
    with house_style():
        target = io.StringIO()
        draw().savefig(target, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(target.getvalue())
    _forget_namespaces(root)
    _drop_head(root)
    _own_ids(root, name)
    _follow_page_colours(root)
    _describe(root, name, title, description)
    ElementTree.indent(root, space="")
    return ElementTree.tostring(root, encoding="unicode")


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draw under this module's style, whatever the user's own is, one thread at a time."""
    with _lock, matplotlib.style.context(_STYLE, after_reset=True), warnings.catch_warnings():
        # A browser has the glyphs that matplotlib's font lacks; only widths are measured here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _forget_namespaces(root: ElementTree.Element) -> None:
    """Write ``<path href=…>`` for ``<svg:path xlink:href=…>``, as HTML wants it."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in [key for key in element.attrib if key.startswith("{")]:
            element.set(key.rpartition("}")[2], element.attrib.pop(key))


def _drop_head(root: ElementTree.Element) -> None:
    # matplotlib's <style> speaks of every element; in a page that would be the whole page.
    for child in [c for c in root if c.tag == "metadata" or c.find("style") is not None]:
        root.remove(child)
    root.set("stroke-linejoin", "round")
    # The page decides the size, knowing the one at which the text is as large as it was drawn.
    root.attrib.pop("height")
    points = float(root.attrib.pop("width").removesuffix("pt"))
    root.set("style", f"--natural: {points * 4 / 3:.0f}px")


def _own_ids(root: ElementTree.Element, name: str) -> None:
    """Prefix the ids that something refers to, and drop the others."""
    wanted = {e.get("href", "").removeprefix("#") for e in root.iter("use")}
    for element in root.iter():
        wanted.update(match for value in element.attrib.values() for match in _REFERENCE.findall(value))
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in wanted:
            element.set("id", f"{name}-{identity}")
        if element.tag == "use":
            element.set("href", f"#{name}-{element.get('href', '').removeprefix('#')}")
        for key, value in element.attrib.items():
            if "url(#" in value:
                element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _follow_page_colours(root: ElementTree.Element) -> None:
    for element in root.iter():
        style = element.get("style", "")
        if style:
            style = re.sub(r"font-family: [^;]*", "font-family: inherit", style)
            element.set("style", _COLOUR.sub(_variable, style))
        if element.get("d"):
            element.set("d", " ".join(_DECIMALS.sub(_two_decimals, element.get("d", "")).split()))


def _variable(match: re.Match[str]) -> str:
    colour = match[0]
    return f"var({_VARIABLES[colour]}, {colour})" if colour in _VARIABLES else colour


def _two_decimals(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}"


def _describe(root: ElementTree.Element, name: str, title: str, description: str) -> None:
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    for tag, text in (("desc", description), ("title", title)):
        element = ElementTree.Element(tag, {"id": f"{name}-{'title' if tag == 'title' else 'description'}"})
        element.text = text
        root.insert(0, element)
    root.set("font-family", "system-ui, sans-serif")
    root.set("xmlns", "http://www.w3.org/2000/svg")
