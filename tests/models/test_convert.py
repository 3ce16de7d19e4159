"""Weights under other names and back: every number bit for bit, and a file that knows what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from test_checkpoint import (
    BASE,
    LARGE,
    State,
    prefixed,
    pretraining,
    published,
    refusal,
    save,
    small_cards,  # noqa: F401 (a fixture)
    trained,
)

import panderm
from panderm.errors import ArtifactError, UsageError, WeightsError
from panderm.models import cards
from panderm.models.convert import convert
from panderm.models.header import header_of, metadata, sha256_of_tensors
from panderm.weights.account import Account
from panderm.weights.checkpoint import read_state


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def assert_same(path: Path, state: State) -> None:
    found = read_state(path, Account())
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value), key


def answer(encoder: panderm.Encoder) -> torch.Tensor:
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    return encoder.encode(pixels)


@pytest.mark.parametrize("size", [BASE, LARGE], ids=["base", "large"])
def test_there_and_back(tmp_path: Path, size: tuple[int, int, int]) -> None:
    state = published(size)
    theirs = prefixed(state) if size == LARGE else state
    source = save(tmp_path / "source.pth", theirs | (pretraining(size[0]) if size == LARGE else {}))
    name = "panderm-large" if size == LARGE else "panderm-base"
    ours, timms, again, last = (tmp_path / f"{i}.safetensors" for i in range(4))
    header = convert(source, ours)
    assert (header.card.name, header.pool, header.names) == (name, None, "panderm")
    assert header == header_of(ours)
    assert_same(ours, state)
    assert convert(ours, timms, to="timm").names == "timm"
    assert "blocks.0.attn.qkv.bias" in load_file(timms)
    convert(timms, again)
    assert_same(again, state)
    convert(again, last, to="published")
    assert_same(last, theirs)
    convert(again, tmp_path / "last.pth", to="published")
    assert torch.load(tmp_path / "last.pth", weights_only=True).keys() == theirs.keys()
    assert_same(tmp_path / "last.pth", theirs)
    expected = answer(panderm.load_encoder(name, weights=source, device="cpu"))
    for path in (ours, timms, again, last):
        assert torch.equal(answer(panderm.load_encoder(path.as_posix(), device="cpu")), expected)


def test_a_fine_tuned_file_there_and_back(tmp_path: Path) -> None:
    state = published(form="ft", classes=7)
    source = save(tmp_path / "checkpoint-best.pth", trained(state))
    kept = {key: value for key, value in state.items() if "head." not in key and not key.endswith("index")}
    ours, timms, again = (tmp_path / f"{i}.safetensors" for i in range(3))
    header = convert(source, ours)
    assert (header.pool, header.source_name) == ("mean", "checkpoint-best.pth")
    assert "2 dropped (classifier)" in header.account
    assert_same(ours, kept)
    encoder = panderm.load_encoder(weights=ours, device="cpu")
    assert (encoder.record.pool, encoder.name) == ("mean", "panderm-base")
    convert(ours, timms, to="timm")
    assert_same(timms, kept)
    convert(timms, again)
    assert_same(again, kept)
    convert(again, tmp_path / "p.pth", to="published")
    made = torch.load(tmp_path / "p.pth", weights_only=True)["model"]
    assert {key for key in made if not key.endswith("index")} == kept.keys()
    assert made["blocks.0.attn.relative_position_index"].shape == (197, 197)
    last = panderm.load_encoder("panderm-base", weights=tmp_path / "p.pth", pool="mean", device="cpu")
    assert torch.equal(answer(last), answer(encoder))


def test_timm_reads_the_linear_probe_form(tmp_path: Path) -> None:
    source = save(tmp_path / "base.pth", published())
    convert(source, tmp_path / "t.safetensors", to="timm")
    network = timm.create_model(
        "vit_base_patch16_224",
        num_classes=0,
        init_values=0.1,
        checkpoint_path=str(tmp_path / "t.safetensors"),
        embed_dim=BASE[0],
        depth=BASE[1],
        num_heads=BASE[2],
    ).eval()
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        theirs = network(pixels)
    ours = answer(panderm.load_encoder("panderm-base", weights=source, device="cpu"))
    assert float((theirs - ours).abs().max()) < 1e-5


def test_timm_reads_the_fine_tuning_form(tmp_path: Path) -> None:
    source = save(tmp_path / "ft.pth", {"model": published(form="ft")})
    convert(source, tmp_path / "t.safetensors", to="timm")
    network = timm.create_model(
        "beit_base_patch16_224",
        num_classes=0,
        use_abs_pos_emb=True,
        checkpoint_path=str(tmp_path / "t.safetensors"),
        embed_dim=BASE[0],
        depth=BASE[1],
        num_heads=BASE[2],
    ).eval()
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        theirs = network(pixels)
    ours = answer(panderm.load_encoder("panderm-base", weights=source, pool="mean", device="cpu"))
    assert float((theirs - ours).abs().max()) < 1e-5


def test_numbers_keep_their_type(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in published().items()}
    convert(save(tmp_path / "half.pth", state), tmp_path / "out.safetensors")
    assert_same(tmp_path / "out.safetensors", state)


def test_a_table_of_another_size_is_kept_as_it_is(tmp_path: Path) -> None:
    from panderm.models.network import position_table

    state = published() | {"pos_embed": position_table(BASE[0], 16)}
    convert(save(tmp_path / "256.pth", state), tmp_path / "out.safetensors")
    assert_same(tmp_path / "out.safetensors", state)


def test_the_mean_of_a_linear_probe_file_is_remembered(tmp_path: Path) -> None:
    source, out = save(tmp_path / "base.pth", published()), tmp_path / "out.safetensors"
    convert(source, out, pool="mean")
    encoder = panderm.load_encoder(weights=out, device="cpu")
    expected = panderm.load_encoder("panderm-base", weights=source, pool="mean", device="cpu")
    assert encoder.record.pool == "mean"
    assert torch.equal(answer(encoder), answer(expected))
    said = refusal(UsageError, convert, source, tmp_path / "t.safetensors", pool="mean", to="timm")
    assert "relative-position tables, and this file has none" in said


def test_timms_own_encoder(tmp_path: Path) -> None:
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    state = {key: value for key, value in network.state_dict().items() if "head" not in key}
    source = save(tmp_path / "tiny.pth", network.state_dict())
    out = tmp_path / "out.safetensors"
    said = refusal(UsageError, convert, save(tmp_path / "x.pth", {"a": torch.zeros(1)}), out)
    assert "fits none of those known" in said
    header = convert(source, out, encoder="timm:vit_tiny_patch16_224", to="timm")
    assert_same(out, state)
    assert (header.card.dim, header.card.layout) == (192, "timm")
    assert panderm.load_encoder(out.as_posix(), device="cpu").name == "timm:vit_tiny_patch16_224"
    said = refusal(UsageError, convert, source, tmp_path / "p.pth", encoder=header.card.name, to="published")
    assert "its layout is timm" in said


def test_which_of_several_must_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = save(tmp_path / "base.pth", published()), tmp_path / "out.safetensors"
    base = next(card for card in cards.KNOWN if card.name == "panderm-base")
    twin = base.model_copy(update={"name": "panderm-twin"})
    monkeypatch.setattr(cards, "KNOWN", (*cards.KNOWN, twin))
    said = refusal(UsageError, convert, source, out)
    assert f"{source} fits panderm-base, panderm-twin" in said
    assert convert(source, out, encoder="panderm-twin").card.name == "panderm-twin"


def test_a_card_of_ones_own(tmp_path: Path) -> None:
    source, out = save(tmp_path / "base.pth", published()), tmp_path / "out.safetensors"
    base = next(card for card in cards.KNOWN if card.name == "panderm-base")
    digest = panderm.load_encoder("panderm-base", weights=source, device="cpu").record.weights_sha256
    own = base.model_copy(update={"name": "mine", "sha256": digest})
    (tmp_path / "my.json").write_text(own.model_dump_json())
    assert convert(source, out, card=tmp_path / "my.json").card.name == "mine"
    assert panderm.load_encoder(weights=out, device="cpu").name == "mine"
    assert panderm.check_weights(out).ok
    refusal(UsageError, convert, source, out, card=tmp_path / "my.json", encoder="other", overwrite=True)
    wrong = own.model_copy(
        update={"fingerprint": cards.Fingerprint(pool="cls", image_size=224, values=(9.0, 9.0), rms=1.0)}
    )
    (tmp_path / "my.json").write_text(wrong.model_dump_json())
    said = refusal(WeightsError, convert, source, tmp_path / "no.safetensors", card=tmp_path / "my.json")
    assert "must answer the self-test as its card says" in said
    assert not (tmp_path / "no.safetensors").exists()


def edit(path: Path, old: str, new: str) -> None:
    """Replace words in a safetensors header, its length with them."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].decode()
    assert old in header
    changed = header.replace(old, new).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    source, out = save(tmp_path / "base.pth", published()), tmp_path / "out.safetensors"
    convert(source, out)
    content = bytearray(out.read_bytes())
    content[-5] ^= 1
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(content)
    assert "must hold the tensors that were written to it" in refusal(
        WeightsError, panderm.load_encoder, weights=changed
    )
    for old, new in (
        ('\\"name\\": \\"panderm-base\\"', '\\"name\\": \\"panderm-large\\"'),
        ('\\"dim\\": 64', '\\"dim\\": 128'),
        ("non-commercial", "commercial"),
    ):
        changed.write_bytes(out.read_bytes())
        edit(changed, old, new)
        said = refusal(WeightsError, panderm.load_encoder, weights=changed)
        assert "it was changed afterwards" in said, said


def test_a_card_that_was_signed_anew_must_still_fit(tmp_path: Path) -> None:
    """Who writes a whole new header is met by shapes and by the self-test."""
    source, out = save(tmp_path / "base.pth", published()), tmp_path / "out.safetensors"
    header = convert(source, out)
    wider = header.card.model_copy(update={"dim": 128, "heads": 2})
    other = header.model_copy(update={"card": wider})
    save_file(load_file(out), tmp_path / "other.safetensors", metadata=metadata(other))
    said = refusal(WeightsError, panderm.load_encoder, weights=tmp_path / "other.safetensors")
    assert "of another shape" in said
    negated = load_file(out)
    negated["norm.bias"] = -negated["norm.bias"]
    other = header.model_copy(update={"tensors_sha256": sha256_of_tensors(negated)})
    save_file(negated, tmp_path / "other.safetensors", metadata=metadata(other))
    said = refusal(WeightsError, panderm.load_encoder, weights=tmp_path / "other.safetensors")
    assert "must answer the self-test as its card says" in said


def test_outputs_are_refused_before_any_work(tmp_path: Path) -> None:
    source = save(tmp_path / "base.pth", published())
    (tmp_path / "there.safetensors").write_text("mine")
    refusal(ArtifactError, convert, source, tmp_path / "there.safetensors")
    assert "must end in .safetensors" in refusal(UsageError, convert, source, tmp_path / "out.pth")
    refusal(UsageError, convert, source, tmp_path / "o.safetensors", to="onnx")
    same = refusal(UsageError, convert, source, source, to="published", overwrite=True)
    assert "converted into itself" in same
    assert convert(source, tmp_path / "there.safetensors", overwrite=True).card.name == "panderm-base"
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == ["there.safetensors"]
    assert not [p for p in tmp_path.iterdir() if re.search(r"\.tmp$", p.name)]


def test_the_header_is_read_by_others(tmp_path: Path) -> None:
    source, out = save(tmp_path / "base.pth", published()), tmp_path / "out.safetensors"
    made = convert(source, out)
    content = out.read_bytes()
    words = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert words["format"] == "pt"
    assert json.loads(words["panderm"])["source_sha256"] == made.source_sha256
