"""``panderm models`` and ``panderm convert`` as typed: what is printed, and the exit codes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import panderm
from panderm.cli import app
from panderm.models import cards, pulling
from panderm.models.families import family_of
from panderm.models.network import draw_weights
from panderm.weights import hosts
from panderm.weights.cache import Source


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small Base, an empty cache, no proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    size = {"dim": 64, "depth": 2, "heads": 1}
    known = tuple(
        card.model_copy(update=size) if card.name == "panderm-base" else card for card in cards.KNOWN
    )
    monkeypatch.setattr(cards, "KNOWN", known)


def base() -> cards.EncoderCard:
    return next(card for card in cards.KNOWN if card.name == "panderm-base")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    network = family_of(base()).build(base(), "cls")
    state = draw_weights({key: value.shape for key, value in network.state_dict().items()}, 1)
    torch.save(state, tmp_path / "base.pth")
    return tmp_path / "base.pth"


def typed(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def told(*words: object) -> dict[str, Any]:
    done = typed(*words, "--json")
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


def test_the_list(tmp_path: Path) -> None:
    found = told("models")
    assert found == told("models", "list")
    here = {one["name"]: one["on_this_machine"] for one in found["encoders"]}
    assert list(here) == [card.name for card in cards.KNOWN]
    assert {name for name, held in here.items() if held} == {"panderm-tiny", "random-tiny"}
    assert found["others"]["timm"]["installed"]
    said = typed("models").stdout
    for card in cards.KNOWN:
        assert card.name in said
    assert "transformers:ID" in said


def test_a_card_is_accepted_as_it_is_printed(tmp_path: Path, weights: Path) -> None:
    for name in ("panderm-base", "monet", "timm:vit_small_patch14_dinov2"):
        printed = typed("models", "show", name, "--json").stdout
        (tmp_path / "my.json").write_text(printed)
        assert typed("models", "show", "--card", tmp_path / "my.json", "--json").stdout == printed
        assert told("models", "show", name)["name"] == name
    (tmp_path / "my.json").write_text(typed("models", "show", "panderm-base", "--json").stdout)
    eye = panderm.load_encoder(card=tmp_path / "my.json", weights=weights, device="cpu")
    assert eye.dim == 64
    said = typed("models", "show", "panderm-base").stdout
    assert "CC BY-NC-ND 4.0" in said
    assert "Nature Medicine" in said
    assert typed("models", "show", "panderm-bse").exit_code == 2
    assert typed("models", "show").exit_code == 2


def test_check_has_three_answers(tmp_path: Path, weights: Path) -> None:
    good = typed("models", "check", weights)
    assert good.exit_code == 0, good.output
    assert good.stdout.startswith(f"{weights}: weights of panderm-base; the self-test passed\n")
    assert "  blocks: 30\n" in good.stdout
    assert "blocks.0.attn.proj.weight" not in good.stdout
    assert "blocks.0.attn.proj.weight" in typed("models", "check", weights, "--keys").stdout
    odd = torch.load(weights, weights_only=True)
    odd |= {f"odd.{i}": torch.zeros(1) for i in range(25)}
    torch.save(odd, tmp_path / "odd.pth")
    bad = typed("models", "check", tmp_path / "odd.pth")
    assert bad.exit_code == 1
    assert "fits no encoder" in bad.stdout
    assert "unexplained: 25" in bad.stdout
    assert "  and 5 more; --keys lists all" in bad.stdout
    assert told("models", "check", tmp_path / "odd.pth")["ok"] is False
    (tmp_path / "page.pth").write_text("<html>")
    page = typed("models", "check", tmp_path / "page.pth")
    assert page.exit_code == 2
    assert "is a web page" in page.output


def test_convert_and_use_without_a_name(tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "base.safetensors"
    done = typed("convert", weights, out)
    assert done.exit_code == 0, done.output
    assert f"next: --encoder {out}" in done.stdout
    assert typed("convert", weights, out).exit_code == 2
    again = told("convert", weights, out, "--overwrite")
    assert (again["card"]["name"], again["names"], again["out"]) == ("panderm-base", "panderm", str(out))
    shown = told("models", "show", out)
    assert shown == again["card"]
    assert shown["fingerprint"]["pool"] == "cls"
    checked = told("models", "check", out)
    assert (checked["header"], checked["ok"]) == ("panderm-base", True)
    assert "its card" in checked["self_test"]["compared_with"]
    assert typed("models", "show", weights).exit_code == 2


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        body = self.server.content.get(self.path.partition("?")[0])  # type: ignore[attr-defined]
        self.send_response(404 if body is None else 200)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        for key, value in (("Content-Length", str(len(body or b""))), ("ETag", '"one"')):
            self.send_header(key, value)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body or b"")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """What it serves, by path; panderm-base and the Hub are looked for there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        running.content = {}  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{running.server_address[1]}"
        source = Source(kind="url", where=f"{address}/base.pth", file="base.pth")
        known = tuple(
            card.model_copy(update={"files": (source,)}) if card.name == "panderm-base" else card
            for card in cards.KNOWN
        )
        monkeypatch.setattr(cards, "KNOWN", known)
        monkeypatch.setattr(hosts, "_HUB", address)
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield running.content  # type: ignore[attr-defined]
        running.shutdown()
        thread.join()


def test_pull_and_use_by_name(server: dict[str, bytes], weights: Path) -> None:
    server["/base.pth"] = weights.read_bytes()
    asked = typed("models", "pull", "panderm-base", "-q")
    assert asked.exit_code == 2
    assert "CC BY-NC-ND 4.0" in asked.output
    assert "--accept-licence" in asked.output
    done = typed("models", "pull", "panderm-base", "--accept-licence", "-q")
    assert done.exit_code == 0, done.output
    assert "licence: CC BY-NC-ND 4.0" in done.stdout
    assert "next: panderm embed table.csv --encoder panderm-base" in done.stdout
    assert panderm.load_encoder("panderm-base", device="cpu").dim == 64
    here = {one["name"]: one["on_this_machine"] for one in told("models")["encoders"]}
    assert here["panderm-base"]
    del server["/base.pth"]
    assert panderm.pull("panderm-base", progress=False).read_bytes() == weights.read_bytes()


def test_a_wrong_file_does_not_count(server: dict[str, bytes], weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    torch.save(state | {"odd": torch.zeros(1)}, tmp_path / "odd.pth")
    server["/base.pth"] = (tmp_path / "odd.pth").read_bytes()
    done = typed("models", "pull", "panderm-base", "--accept-licence", "-q")
    assert done.exit_code == 2
    assert "cannot be explained: odd" in done.output
    server["/base.pth"] = weights.read_bytes()
    assert typed("models", "pull", "panderm-base", "--accept-licence", "-q").exit_code == 0


def test_what_has_nothing_to_download(server: dict[str, bytes]) -> None:
    done = typed("models", "pull", "random-tiny", "--accept-licence")
    assert done.exit_code == 2
    assert "drawn at random" in done.output


def test_a_repository_of_the_hub(server: dict[str, bytes], tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"input_size": [3, 224, 224]}}
    files = [{"rfilename": "README.md"}, {"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]
    listed = {"id": "ORG/EYE", "sha": "0" * 40, "siblings": files, "tags": ["license:mit"]}
    server["/api/models/ORG/EYE"] = json.dumps(listed).encode()
    server["/ORG/EYE/resolve/main/config.json"] = json.dumps(config).encode()
    server["/ORG/EYE/resolve/main/model.safetensors"] = (tmp_path / "model.safetensors").read_bytes()
    for name in ("config.json", "model.safetensors"):
        server[f"/ORG/EYE/resolve/{'0' * 40}/{name}"] = server[f"/ORG/EYE/resolve/main/{name}"]
    asked = typed("models", "pull", "hf-hub:ORG/EYE", "-q")
    assert (asked.exit_code, "licence: mit (https://huggingface.co/ORG/EYE)" in asked.output) == (2, True)
    done = typed("models", "pull", "hf-hub:ORG/EYE", "--accept-licence", "-q", "--json")
    assert done.exit_code == 0, done.output
    assert Path(json.loads(done.stdout)["weights"]).name == "model.safetensors"
    assert panderm.load_encoder("hf-hub:ORG/EYE", device="cpu").dim == 192
    server.clear()
    assert panderm.pull("hf-hub:ORG/EYE", progress=False).is_file()
    assert typed("models", "pull", "hf-hub:ORG/OTHER", "--accept-licence").exit_code == 2


def test_a_file_that_was_renamed_on_the_hub(
    server: dict[str, bytes], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Source(kind="hub", where="ORG/BASE", file="old.bin")
    known = tuple(
        card.model_copy(update={"files": (gone,)}) if card.name == "panderm-base" else card
        for card in cards.KNOWN
    )
    monkeypatch.setattr(cards, "KNOWN", known)
    listed = {"id": "ORG/BASE", "sha": "0" * 40, "siblings": [{"rfilename": "pytorch_model.bin"}]}
    server["/api/models/ORG/BASE"] = json.dumps(listed).encode()
    for revision in ("main", "0" * 40):
        server[f"/ORG/BASE/resolve/{revision}/pytorch_model.bin"] = weights.read_bytes()
    path = pulling.pull("panderm-base", accept_licence=True, progress=False)
    assert path.name == "pytorch_model.bin"
    assert panderm.load_encoder("panderm-base", device="cpu").dim == 64
