"""A checkpoint of the published segmentation code: its 451 names are ours, and nothing in it is run."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import panderm
from panderm.errors import WeightsError
from panderm.models.names import find_card
from panderm.models.network import draw_weight, position_table
from panderm.segmenting.published import PREFIX, is_published, open_published, published_name
from panderm.segmenting.segmenter import load_segmenter
from panderm.segmenting.taps import published_taps

GOLDEN = Path(__file__).parents[1] / "golden"

NAMES = (GOLDEN / "segmentation_checkpoint_keys.txt").read_text("utf-8").split()
SHAPES = {
    "decode_head.conv_seg.weight": (2, 1024, 1, 1),
    "decode_head.psp_modules.3.1.conv.weight": (1024, 1024, 1, 1),
    "decode_head.bottleneck.conv.weight": (1024, 5120, 3, 3),
    "decode_head.lateral_convs.0.conv.weight": (1024, 1024, 1, 1),
    "decode_head.fpn_convs.2.conv.weight": (1024, 1024, 3, 3),
    "decode_head.fpn_bottleneck.conv.weight": (1024, 4096, 3, 3),
    "backbone.fpn1.0.weight": (1024, 1024, 2, 2),
    "backbone.fpn1.1.running_mean": (1024,),
    "backbone.fpn2.0.weight": (1024, 1024, 2, 2),
    "backbone.norm.weight": (1024,),
    "backbone.pos_embed": (1, 197, 1024),
    "backbone.blocks.23.attn.qkv.weight": (3072, 1024),
}


def network_of(width: int, depth: int, channels: int, classes: int = 2) -> Any:
    """Build the published network on no device, as the opened one is built."""
    from panderm.segmenting import published

    outline = {
        "backbone.cls_token": torch.empty(1, 1, width, device="meta"),
        "decode_head.conv_seg.weight": torch.empty(classes, channels, 1, 1, device="meta"),
    } | {f"backbone.blocks.{i}.x": torch.empty(1, device="meta") for i in range(depth)}
    card = published._card_of(outline, Path("x.ckpt"))
    return published._network(card, outline)


def drawn(width: int = 64, depth: int = 3, channels: int = 8) -> OrderedDict[str, torch.Tensor]:
    """Return a small checkpoint's tensors under the published names."""
    made: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, one in network_of(width, depth, channels).state_dict().items():
        if name.endswith("num_batches_tracked"):
            value = torch.tensor(7)
        elif name.endswith("running_var"):
            value = 0.5 + draw_weight(name, one.shape, 0).abs()
        elif name == "encoder.pos_embed":
            value = position_table(width, 14)
        else:
            value = draw_weight(name, one.shape, 0)
            if one.ndim > 1 or "gamma" in name:
                value = value * 8  # so that every tap is seen in what comes out
        made[published_name(name)] = value
    return made


def lightning(state: Any) -> dict[str, Any]:
    """What Lightning writes beside the tensors of a network."""
    return {
        "epoch": 99,
        "global_step": 129_700,
        "pytorch-lightning_version": "2.2.1",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 100}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'Val/Jac'}": {"best_model_score": torch.tensor(0.86)}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.ones(3)}}}],
        "lr_schedulers": [{"T_max": 100, "_last_lr": [1e-6]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 1e-4, "size": 224},
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "model_best_0.ckpt"
    torch.save(lightning(drawn()), path)
    return path


def test_the_published_names_are_ours() -> None:
    network = network_of(1024, 24, 1024)
    ours = {published_name(name): tuple(one.shape) for name, one in network.state_dict().items()}
    assert len(NAMES) == len(set(NAMES)) == len(ours) == 451
    assert set(ours) == set(NAMES)
    assert {name: ours[PREFIX + name] for name in SHAPES} == SHAPES
    assert network.taps.blocks == published_taps(24) == (7, 11, 15, 23)
    encoder = sum(one.numel() for one in network.encoder.parameters())
    whole = sum(one.numel() for one in network.parameters())
    assert (round(encoder / 1e6, 2), round(whole / 1e6, 1)) == (303.33, 436.5)


def test_a_checkpoint_opens_and_every_tensor_is_explained(file: Path) -> None:
    network, record, account = open_published(file)
    state = drawn()
    assert account.used == len(state) == len(network.state_dict())
    assert sorted(name for names in account.names.values() for name in names) == sorted(state)
    assert "beside 'state_dict'" in account.dropped
    for name, one in network.state_dict().items():
        assert torch.equal(one, state[published_name(name)])
    assert (record.decoder, record.taps, record.width, record.size) == ("upernet", (0, 1, 1, 2), 8, 224)
    assert (record.input.mean, record.input.std) == ((0.5,) * 3, (0.5,) * 3)
    assert record.input.resize == (224, 224)


def test_it_segments_as_its_tensors_say(file: Path) -> None:
    segmenter = load_segmenter(file, device="cpu")
    rgb = torch.randint(
        0, 256, (2, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pixels = (rgb.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    network = segmenter.network
    with torch.no_grad():
        x, kept = network.encoder.patch_embed(pixels), []
        x = torch.cat([network.encoder.cls_token.expand(2, -1, -1), x], 1) + network.encoder.pos_embed
        for block in network.encoder.blocks:
            x = block(x)
            kept.append(network.encoder.norm(x)[:, 1:].transpose(1, 2).reshape(2, 64, 14, 14))
        logits = network.decoder([kept[i] for i in (0, 1, 1, 2)])
        wanted = torch.nn.functional.interpolate(logits, (224, 224), mode="bilinear")
        other = network.decoder([kept[i] for i in (0, 0, 1, 2)])
    found, scale = segmenter.logits(rgb), float(wanted.std())
    assert (found - wanted).abs().max() < 1e-4 * scale
    assert (other - logits).abs().max() > 0.01 * scale
    assert (segmenter.probabilities(rgb) - wanted.softmax(1)[:, 1]).abs().max() < 1e-4
    assert (segmenter.classes, segmenter.size, segmenter.name) == (
        ("skin", "lesion"),
        224,
        "panderm-64-3 + published UPerNet",
    )


@pytest.mark.parametrize("form", ["bare", "safetensors", "no model."])
def test_other_wrappings_open_too(form: str, tmp_path: Path) -> None:
    state, path = drawn(), tmp_path / ("x.safetensors" if form == "safetensors" else "x.pth")
    if form == "no model.":
        state = OrderedDict((name.removeprefix("model."), one) for name, one in state.items())
    if form == "safetensors":
        save_file(dict(state), path)
    else:
        torch.save(state, path)
    assert is_published(path)
    assert load_segmenter(path, device="cpu").record.decoder == "upernet"


def without(name: str) -> Any:
    return lambda state: state.pop(PREFIX + name)


def other(name: str, value: torch.Tensor) -> Any:
    return lambda state: state.update({PREFIX + name: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("decode_head.fpn_convs.1.bn.running_var"), "1 missing: decoder.fpn_convs.1.bn.running_var"),
        (without("backbone.blocks.1.gamma_1"), "1 missing: encoder.blocks.1.gamma_1"),
        (without("backbone.cls_token"), "PanDerm's encoder and UPerNet"),
        (without("decode_head.conv_seg.weight"), "PanDerm's encoder and UPerNet"),
        (other("decode_head.conv_seq.weight", torch.ones(2)), "cannot be explained: decoder.conv_seq.weight"),
        (other("auxiliary_head.conv.weight", torch.ones(2)), "cannot be explained: auxiliary_head.conv"),
        (other("backbone.fpn5.weight", torch.ones(2)), "cannot be explained: encoder.fpn5.weight"),
        (other("decode_head.conv_seg.bias", torch.ones(3)), r"\(3,\) instead of \(2,\)"),
        (other("backbone.norm.weight", torch.full((64,), float("nan"))), "finite"),
        (other("backbone.pos_embed", 0.02 * torch.randn(1, 197, 64)), "fixed sine-cosine"),
        (lambda state: state.update({"loss.weight": torch.ones(2)}), "cannot be explained: loss.weight"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, words: str, tmp_path: Path) -> None:
    state = drawn()
    change(state)
    torch.save(lightning(state), tmp_path / "x.ckpt")
    with pytest.raises(WeightsError, match=words):
        load_segmenter(tmp_path / "x.ckpt")


class Runs:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was-run"),))


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(lightning(drawn()) | {"hyper_parameters": Runs()}, "x.ckpt")
    with pytest.raises(WeightsError, match="tensors, not code"):
        load_segmenter("x.ckpt")
    assert not Path("was-run").exists()


def test_a_checkpoint_that_is_cut_short_or_of_an_encoder_alone_is_refused(file: Path, tmp_path: Path) -> None:
    data, path = file.read_bytes(), tmp_path / "x.ckpt"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="must be whole"):
        load_segmenter(path)
    encoder = {k.removeprefix(f"{PREFIX}backbone."): v for k, v in drawn().items() if "backbone.blocks" in k}
    torch.save(encoder, path)
    assert not is_published(path)
    with pytest.raises(WeightsError, match="has no record of a decoder"):
        load_segmenter(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no weights")
    with pytest.raises(WeightsError):
        load_segmenter(path)


def test_its_encoder_serves_every_verb(file: Path, tmp_path: Path) -> None:
    """A card of one's own here; of the released checkpoint: --encoder panderm-large --weights FILE."""
    card = find_card("panderm-large").model_copy(
        update={"name": "mine", "dim": 64, "depth": 3, "heads": 1, "files": ()}
    )
    (tmp_path / "mine.json").write_text(card.model_dump_json())
    encoder = panderm.load_encoder(weights=file, card=tmp_path / "mine.json", device="cpu")
    assert "segmentation decoder, not used by an encoder" in encoder.account.dropped
    whole = open_published(file)[0].encoder.state_dict()
    assert all(torch.equal(one, whole[name]) for name, one in encoder.network.state_dict().items())
