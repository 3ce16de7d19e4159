"""No telemetry: every verb does its work with the network out of reach, and its page asks for nothing."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import timm
from safetensors.torch import save_file
from typer.testing import CliRunner

from panderm.cli import app
from panderm.data.drawn import DrawnWorld
from panderm.models import cards

ATTEMPTS: list[str] = []


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every way out of this process, and remember who tried."""
    ATTEMPTS.clear()

    def refuse(name: str) -> object:
        def refused(*args: object, **_: object) -> object:
            ATTEMPTS.append(f"{name}{args[-1:]}")
            raise OSError("no network in this test")

        return refused

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse(name))


def panderm(command: str) -> str:
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_block_blocks() -> None:
    with pytest.raises(urllib.error.URLError, match="no network in this test"):
        urllib.request.urlopen("http://127.0.0.1:9/")
    assert ATTEMPTS


@pytest.fixture
def desk(world: DrawnWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a table of 30 drawn images, and a random-tiny of two blocks."""
    known = (c.model_copy(update={"depth": 2}) if c.name == "random-tiny" else c for c in cards.KNOWN)
    monkeypatch.setattr(cards, "KNOWN", tuple(known))
    monkeypatch.chdir(tmp_path)
    pd.read_csv(world.csv).groupby(["split", "label"]).head(4).to_csv("skin.csv", index=False)
    return world.images


def test_every_verb_works_without_a_network(desk: Path) -> None:
    table = f"skin.csv --images {desk} --encoder random-tiny -q"
    panderm(f"embed {table} --out skin.emb")
    panderm("embeddings info skin.emb --verify -q")
    for to in ("npz", "csv", "h5", "hf-datasets", "lance", "parquet"):
        panderm(f"embeddings export skin.emb --to {to} --out vectors.{to} -q")
    for split in ("train", "test"):
        panderm(f"embeddings select skin.emb --where split={split} --out {split}.emb -q")
    panderm("embeddings merge train.emb test.emb --out both.emb -q")
    panderm("probe skin.emb --out skin.pred")
    panderm("evaluate skin.pred --out skin.json --published-csv published --draws 100")
    panderm("report skin.pred --scores skin.json --out skin.html")
    panderm("map skin.emb --method pca --out map.html -q")
    done = json.loads(panderm(f"run {table} --out all --recipe paper --draws 100 --json"))
    panderm(f"split skin.csv --images {desk} --val 0.2 -q")
    panderm(f"split skin_split.csv --images {desk} --verify -q")
    panderm("export random-tiny skin.onnx --with skin.pred -q")
    panderm("models")
    panderm("models show panderm-large")
    panderm("demo --out demo --n 60 -q --json")
    assert not ATTEMPTS
    for page in ("skin.html", done["report"], "demo/report.html"):
        assert requests_of(Path(page).read_text("utf-8")) == []


def test_an_encoder_of_timm_works_without_a_network(desk: Path) -> None:
    """timm knows where to download its weights; with a file at hand it must not try."""
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    save_file(network.state_dict(), "tiny.safetensors")
    eye = "--encoder timm:vit_tiny_patch16_224 --weights tiny.safetensors"
    panderm(f"embed skin.csv --images {desk} {eye} --out skin.emb -q")
    without = CliRunner().invoke(
        app, f"embed skin.csv --images {desk} {eye.split(' --w')[0]} --out x".split()
    )
    assert without.exit_code == 2
    assert "needs its weights file" in without.stderr
    panderm("models check tiny.safetensors --encoder timm:vit_tiny_patch16_224")
    panderm("convert tiny.safetensors mine.safetensors --encoder timm:vit_tiny_patch16_224")
    panderm(f"embed skin.csv --images {desk} --encoder mine.safetensors --out mine.emb -q")
    assert not ATTEMPTS


def test_a_download_without_a_network_says_what_to_do_instead(desk: Path) -> None:
    pytest.importorskip("gdown")
    result = CliRunner().invoke(app, ["models", "pull", "panderm-base", "--accept-licence", "-q"])
    assert result.exit_code == 2
    assert ATTEMPTS  # what was asked for is tried
    assert "17J4MjsZu3gdBP6xAQi_NMDVvH65a00HB" in result.stderr
    assert "--weights" in result.stderr


class Requests(HTMLParser):
    """Collects what a browser would fetch, run or follow by itself."""

    FETCH = frozenset(
        ("src", "srcset", "href", "xlink:href", "data", "poster", "background", "action", "ping")
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "base", "form"):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            value = (value or "").strip()
            if name in self.FETCH and tag != "a" and not value.startswith(("data:", "#")):
                self.found.append(f"{tag} {name}={value[:60]}")
            if name.startswith("on") or (
                tag == "meta" and name == "http-equiv" and value.lower() == "refresh"
            ):
                self.found.append(f"{tag} {name}")


def requests_of(page: str) -> list[str]:
    parser = Requests()
    parser.feed(page)
    style = re.findall(r"@import|url\((?!#|['\"]?data:|['\"]?#)[^)]*\)", page)
    return parser.found + style


@pytest.mark.parametrize(
    "page",
    [
        '<img src="https://example.org/a.png">',
        '<img src="a.png">',
        "<script>1</script>",
        '<link rel="stylesheet" href="page.css">',
        "<style>@import 'a.css'</style>",
        "<style>p { background: url(//example.org/a.png) }</style>",
        '<svg><image xlink:href="http://example.org/a.png"/></svg>',
        '<body onload="x()">',
        '<meta http-equiv="refresh" content="0; url=http://example.org">',
    ],
)
def test_a_request_would_be_seen(page: str) -> None:
    assert requests_of(page)


def test_text_and_drawings_are_no_requests() -> None:
    page = (
        '<p>see https://doi.org/10.1038/x</p><a href="https://doi.org/10.1038/x">doi</a><a href="#b">b</a>'
        '<svg xmlns="http://www.w3.org/2000/svg"><use xlink:href="#g"/><path clip-path="url(#c)"/></svg>'
        '<img src="data:image/jpeg;base64,AAAA"><link rel="icon" href="data:,">'
    )
    assert requests_of(page) == []
