"""What a file is, key by key: right files, wrong ones, and those whose numbers are not as they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from test_checkpoint import (
    BASE,
    LARGE,
    as_parallel,
    prefixed,
    pretraining,
    published,
    refusal,
    save,
    small_cards,  # noqa: F401 (a fixture)
    trained,
)

import panderm
from panderm.errors import UsageError, WeightsError
from panderm.models import cards, fingerprint
from panderm.models.cards import Fingerprint
from panderm.models.check import check_weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_published_file_key_by_key(tmp_path: Path) -> None:
    state = prefixed(published(LARGE))
    path = save(tmp_path / "large.pth", state | pretraining(LARGE[0]))
    found = check_weights(path)
    assert (found.fits, found.ok, found.header) == (("panderm-large",), True, None)
    assert (found.bytes, found.tensors) == (path.stat().st_size, len(state) + 9)
    fit = found.closest
    assert fit is not None
    assert fit.used == {key: (key.removeprefix("encoder."),) for key in state}
    assert (fit.missing, fit.unexplained, fit.wrong_shape, fit.form) == ((), (), (), None)
    assert fit.dropped["pretraining teacher"] == ("teacher.norm.weight",)
    assert sum(map(len, fit.dropped.values())) == 9


def test_a_fine_tuned_file_says_its_form(tmp_path: Path) -> None:
    path = save(tmp_path / "ft.pth", trained(as_parallel(published(form="ft", classes=7))))
    found = check_weights(path)
    assert (found.fits, found.ok) == (("panderm-base",), True)
    assert found.closest is not None
    assert found.closest.form == "mean"
    assert found.closest.dropped["classifier"] == ("head.weight", "head.bias")
    assert found.closest.used["fc_norm.weight"] == ("fc_norm.weight",)


def test_what_is_off_is_named(tmp_path: Path) -> None:
    state = published()
    del state["blocks.1.norm2.bias"]
    state["blocks.0.mlp.fc2.bias"] = torch.zeros(3)
    state["extra.thing"] = torch.zeros(1)
    found = check_weights(save(tmp_path / "odd.pth", state))
    assert (found.fits, found.ok, found.self_test) == ((), False, None)
    fit = found.closest
    assert fit is not None
    assert (fit.encoder, fit.off) == ("panderm-base", 3)
    assert fit.missing == ("blocks.1.norm2.bias",)
    assert fit.unexplained == ("extra.thing",)
    wrong = fit.wrong_shape[0]
    assert (wrong.key, wrong.found, wrong.expected) == ("blocks.0.mlp.fc2.bias", (3,), (64,))
    assert len(fit.used) == 34


def test_what_stands_outside_the_prefix_keeps_its_own_name(tmp_path: Path) -> None:
    path = save(tmp_path / "odd.pth", prefixed(published()) | {"beside.it": torch.zeros(2)})
    fit = check_weights(path, encoder="panderm-base").closest
    assert fit is not None
    assert fit.unexplained == ("beside.it",)


def test_timm_is_searched_and_a_split_bias_is_used_twice(tmp_path: Path) -> None:
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    found = check_weights(save(tmp_path / "tiny.pth", network.state_dict()))
    assert found.fits[0] == "timm:vit_tiny_patch16_224"
    assert not [name for name in found.fits if name.endswith("_384")], "another input size is no other file"
    assert found.ok
    assert found.closest is not None
    assert found.closest.dropped == {"classifier": ("head.weight", "head.bias")}


def test_timms_names_of_panderm_are_traced(tmp_path: Path) -> None:
    from panderm.models.layouts import to_timm

    fit = check_weights(save(tmp_path / "t.pth", to_timm(published()))).closest
    assert fit is not None
    assert fit.fits
    assert fit.used["blocks.0.attn.qkv.bias"] == ("blocks.0.attn.q_bias", "blocks.0.attn.v_bias")
    assert fit.used["blocks.1.ls2.gamma"] == ("blocks.1.gamma_2",)


def test_the_account_of_a_loaded_encoder_names_its_origins(tmp_path: Path) -> None:
    path = save(tmp_path / "b.pth", prefixed(published()))
    account = panderm.load_encoder("panderm-base", weights=path, pool="mean", device="cpu").account
    assert account.names["fc_norm.weight"] == ("encoder.norm.weight",)
    assert account.names["blocks.0.attn.relative_position_bias_table"] == ()
    assert len(account.names) == account.used == 38


def test_nothing_that_is_known(tmp_path: Path) -> None:
    found = check_weights(save(tmp_path / "x.pth", {"a": torch.zeros(2)}), encoder="panderm-base")
    assert (found.ok, found.closest is not None and found.closest.unexplained) == (False, ("a",))
    assert not check_weights(tmp_path / "x.pth").ok


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_a_finding(tmp_path: Path, bad: float) -> None:
    state = published()
    state["blocks.0.mlp.fc1.weight"][0, 0] = bad
    found = check_weights(save(tmp_path / "nan.pth", state))
    assert found.fits == ("panderm-base",)
    assert found.self_test is not None
    assert not found.ok
    assert "NaN or infinite" in str(found.self_test.problem)


def test_a_network_that_does_not_look_is_a_finding(tmp_path: Path) -> None:
    state = published()
    state["patch_embed.proj.weight"] *= 0
    found = check_weights(save(tmp_path / "blind.pth", state))
    assert found.self_test is not None
    assert "two different drawings give the same vector" in str(found.self_test.problem)


def test_what_it_is_compared_with_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "base.pth", published())
    first, second = (check_weights(path).self_test for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.compared_with == ()
    assert second.compared_with == ("what this file answered when it was first loaded here",)
    assert first.first_numbers == second.first_numbers
    known = Fingerprint(pool="cls", image_size=224, values=first.first_numbers, rms=1.0)
    for values, ok in ((known.values, True), (tuple(x + 1 for x in known.values), False)):
        own = known.model_copy(update={"values": values})
        mine = cards.KNOWN[1].model_copy(update={"fingerprint": own, "name": "mine"})
        (tmp_path / "mine.json").write_text(mine.model_dump_json())
        found = check_weights(path, card=tmp_path / "mine.json")
        assert found.fits == ("mine",)
        assert found.self_test is not None
        assert found.ok is ok
        if ok:
            assert found.self_test.compared_with[0] == "its card"
        else:
            assert "as its card says" in str(found.self_test.problem)


def test_another_answer_of_the_same_file_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "base.pth", published())
    assert check_weights(path).ok
    monkeypatch.setattr(fingerprint, "drawing", lambda size: torch.ones(1, 3, size, size))
    found = check_weights(path)
    assert found.self_test is not None
    assert "when it was first loaded here" in str(found.self_test.problem)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/never",)


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    said = refusal(WeightsError, check_weights, save(tmp_path / "h.pth", {"a": Hostile()}))
    assert "tensors, not code" in said
    whole = save(tmp_path / "w.pth", published()).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "must be whole" in refusal(WeightsError, check_weights, tmp_path / "cut.pth")
    assert "found no file" in refusal(WeightsError, check_weights, tmp_path / "none.pth")
    refusal(UsageError, check_weights, tmp_path / "w.pth", encoder="panderm-huge")


def test_the_numbers_do_not_decide_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No numbers are read for a file that fits nothing."""
    from panderm.weights import checkpoint

    path = tmp_path / "odd.safetensors"
    save_file(published(BASE) | {"extra": torch.zeros(1)}, path)
    monkeypatch.setattr(checkpoint, "read_tensors", None)
    assert check_weights(path).fits == ()
