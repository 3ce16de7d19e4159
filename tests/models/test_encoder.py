"""Pixels in, vectors out: the same whatever they come with, as they come, and on which day."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

import panderm
from panderm.embeddings import EncoderRecord
from panderm.errors import DataError, UsageError
from panderm.weights.account import Account

BATCH_TOLERANCE = 3e-5  # sums in another order, of numbers up to 3
DRAWN_TOLERANCE = 2e-6  # six decimals, and the last bits of another CPU's logarithm
VECTOR_TOLERANCE = 1e-4  # twelve blocks later
# Largest ‖reduced - full‖ / ‖full‖ of a vector: bfloat16 keeps 8 bits, float16 keeps 11.
PRECISION_TOLERANCE = {"bf16": 2e-2, "fp16": 2e-3}


@pytest.fixture(scope="module")
def tiny() -> panderm.Encoder:
    return panderm.load_encoder("random-tiny", device="cpu")


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(6, 3, 224, 224, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def vectors(tiny: panderm.Encoder, pixels: torch.Tensor) -> torch.Tensor:
    return tiny.encode(pixels)


class Broken(torch.nn.Module):
    """A network that gives whatever the test wants."""

    def __init__(self, give: Any) -> None:
        super().__init__()
        self.give = give

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.give(pixels)


def broken(tiny: panderm.Encoder, give: Any) -> panderm.Encoder:
    return panderm.Encoder(Broken(give), tiny.preprocess, tiny.record, Account(), torch.device("cpu"))


# --- encode ------------------------------------------------------------


def test_a_tensor_gives_a_tensor(tiny: panderm.Encoder, vectors: torch.Tensor) -> None:
    assert isinstance(vectors, torch.Tensor)
    assert vectors.shape == (6, tiny.dim) == (6, 192)
    assert vectors.dtype == torch.float32
    assert vectors.device.type == "cpu"
    assert vectors.isfinite().all()
    assert vectors.std(dim=0).min() > 0  # images are told apart in every direction


def test_an_array_gives_an_array(tiny: panderm.Encoder, pixels: torch.Tensor, vectors: torch.Tensor) -> None:
    array = tiny.encode(pixels.numpy())
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, vectors.numpy())


@pytest.mark.parametrize(
    "other",
    [
        lambda array: array.astype(np.float64),
        lambda array: array.astype(">f4"),
        np.asfortranarray,
        lambda array: array[:, :, :, ::-1].copy()[:, :, :, ::-1],
        lambda array: np.broadcast_to(array, array.shape),
        lambda array: array.tolist(),
    ],
    ids=["double", "byte order", "column order", "negative stride", "read-only", "lists"],
)
def test_arrays_of_every_make(
    tiny: panderm.Encoder, pixels: torch.Tensor, vectors: torch.Tensor, other: Any
) -> None:
    np.testing.assert_allclose(tiny.encode(other(pixels[:2].numpy())), vectors[:2], atol=BATCH_TOLERANCE)


def test_tensors_of_every_make(tiny: panderm.Encoder, pixels: torch.Tensor, vectors: torch.Tensor) -> None:
    for other in (pixels.double(), pixels.to(memory_format=torch.channels_last), pixels.flip(0).flip(0)):
        torch.testing.assert_close(tiny.encode(other), vectors, rtol=0, atol=BATCH_TOLERANCE)


def test_no_image_and_one_image(tiny: panderm.Encoder, pixels: torch.Tensor, vectors: torch.Tensor) -> None:
    none = tiny.encode(pixels[:0])
    assert none.shape == (0, 192)
    assert none.dtype == torch.float32
    assert tiny.encode(pixels[:0].numpy()).shape == (0, 192)
    one = tiny.encode(pixels[:1])
    torch.testing.assert_close(one, vectors[:1], rtol=0, atol=BATCH_TOLERANCE)


def test_company_in_a_batch_does_not_matter(
    tiny: panderm.Encoder, pixels: torch.Tensor, vectors: torch.Tensor
) -> None:
    alone = torch.cat([tiny.encode(pixels[i : i + 1]) for i in range(6)])
    backwards = tiny.encode(pixels.flip(0)).flip(0)
    beside_strangers = tiny.encode(torch.cat([pixels[:3], 100 * pixels[3:]]))[:3]
    torch.testing.assert_close(alone, vectors, rtol=0, atol=BATCH_TOLERANCE)
    torch.testing.assert_close(backwards, vectors, rtol=0, atol=BATCH_TOLERANCE)
    torch.testing.assert_close(beside_strangers, vectors[:3], rtol=0, atol=BATCH_TOLERANCE)


def test_the_same_twice_and_the_pixels_untouched(
    tiny: panderm.Encoder, pixels: torch.Tensor, vectors: torch.Tensor
) -> None:
    before = pixels.clone()
    assert torch.equal(tiny.encode(pixels), vectors)
    assert torch.equal(pixels, before)
    assert not any(module.training for module in tiny._network.modules())


def test_no_graph_is_kept_and_one_may_train_on_the_vectors(
    tiny: panderm.Encoder, pixels: torch.Tensor
) -> None:
    encoded = tiny.encode(pixels[:1].clone().requires_grad_())
    assert not encoded.requires_grad
    assert encoded.grad_fn is None
    assert not encoded.is_inference()
    assert not any(parameter.requires_grad for parameter in tiny._network.parameters())
    head = torch.nn.Linear(192, 2)
    head(encoded).sum().backward()
    assert head.weight.grad is not None


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (torch.zeros(3, 224, 224), "(3, 224, 224) of torch.float32"),
        (torch.zeros(1, 3, 224, 225), "(1, 3, 224, 225) of torch.float32"),
        (torch.zeros(1, 3, 256, 256), "(1, 3, 256, 256) of torch.float32"),
        (torch.zeros(1, 224, 224, 3), "(1, 224, 224, 3) of torch.float32"),
        (torch.zeros(1, 1, 224, 224), "(1, 1, 224, 224) of torch.float32"),
        (torch.zeros(1, 3, 224, 224, dtype=torch.uint8), "(1, 3, 224, 224) of torch.uint8"),
        (np.zeros((1, 3, 224, 224), dtype=np.uint8), "(1, 3, 224, 224) of uint8"),
        (np.zeros((1, 3, 224, 224), dtype=bool), "(1, 3, 224, 224) of bool"),
        (np.array([None, "x"]), "(2,) of object"),
        ([], "(0,) of float64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pixels_that_are_none(tiny: panderm.Encoder, wrong: Any, found: str) -> None:
    with pytest.raises(DataError) as caught:
        tiny.encode(wrong)
    assert str(caught.value) == (
        "pixels must be normalised floats of shape (n, 3, 224, 224).\n"
        f"  found {found}\n"
        "  hint: encoder.preprocess(image) makes them from an RGB uint8 image"
    )


def test_a_network_that_gives_maps_is_refused(tiny: panderm.Encoder, pixels: torch.Tensor) -> None:
    maps = broken(tiny, lambda given: given.new_zeros(len(given), 192, 14, 14))
    with pytest.raises(DataError) as caught:
        maps.encode(pixels[:2])
    assert str(caught.value) == (
        "random-tiny must give one vector of 192 numbers an image.\n"
        "  found (2, 192, 14, 14) from 2\n"
        "  hint: choose --pool mean, or another encoder"
    )


@pytest.mark.parametrize("precision", PRECISION_TOLERANCE)
def test_reduced_precision_stays_close(precision: Any, pixels: torch.Tensor, vectors: torch.Tensor) -> None:
    reduced = panderm.load_encoder("random-tiny", precision=precision, device="cpu")
    assert reduced.record.precision == precision
    encoded = reduced.encode(pixels[:2])  # a processor may take its time for it
    assert encoded.dtype == torch.float32
    off = (encoded - vectors[:2]).norm(dim=1) / vectors[:2].norm(dim=1)
    assert 0 < off.max() < PRECISION_TOLERANCE[precision]


# --- random-tiny is the same everywhere ----------------------------------


def test_random_tiny_holds_the_same_numbers_on_every_machine(tiny: panderm.Encoder) -> None:
    """First, second and last number of some tensors, committed."""
    state = tiny._network.state_dict()
    committed = {
        "cls_token": [-0.056875, 0.015091, -0.020981],
        "patch_embed.proj.weight": [-0.018040, -0.026947, -0.017487],
        "blocks.0.gamma_1": [0.140929, 0.042416, 0.156788],
        "blocks.5.attn.qkv.weight": [0.017255, -0.049307, 0.005869],
        "blocks.11.mlp.fc2.bias": [-0.157503, 0.023002, 0.065127],
        "norm.weight": [0.974369, 1.088626, 1.019411],
        "pos_embed": [0.0, 0.0, 0.999999],
    }
    for name, numbers in committed.items():
        held = state[name].flatten()[[0, 1, -1]]
        torch.testing.assert_close(held, torch.tensor(numbers), rtol=0, atol=DRAWN_TOLERANCE)


def test_random_tiny_gives_the_same_vectors_on_every_machine(tiny: panderm.Encoder) -> None:
    ramp = torch.linspace(-2, 2, 3 * 224 * 224).reshape(1, 3, 224, 224)
    some = tiny.encode(ramp)[0, [0, 1, 2, 50, 100, 191]]
    committed = torch.tensor([-1.67047, -0.29096, 0.23395, -0.41473, 0.92389, -2.52832])
    torch.testing.assert_close(some, committed, rtol=0, atol=VECTOR_TOLERANCE)


def test_every_load_is_the_same_whatever_the_seed(tiny: panderm.Encoder) -> None:
    torch.manual_seed(12345)
    again = panderm.load_encoder("random-tiny", device="cpu")
    ours, theirs = again._network.state_dict(), tiny._network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.record == tiny.record


@pytest.mark.parametrize("name", ["random-tiny", "timm:test_vit", "timm:test_resnet"])
def test_the_callers_random_numbers_are_left_alone(name: str, tmp_path: Path) -> None:
    weights = None
    if name.startswith("timm:"):
        weights = tmp_path / "weights.safetensors"
        save_file(timm.create_model(name.removeprefix("timm:")).state_dict(), weights)

    def state() -> tuple[Any, ...]:
        _, keys, position, *_ = np.random.get_state()  # noqa: NPY002 - the global one is meant
        return torch.get_rng_state().tolist(), keys.tolist(), position, random.getstate()

    before = state()
    loaded = panderm.load_encoder(name, weights=weights, device="cpu")
    loaded.encode(torch.zeros(1, 3, loaded.record.image_size, loaded.record.image_size))
    assert state() == before


# --- embed -------------------------------------------------------------


def test_in_memory_equals_on_disk(
    encoder: panderm.Encoder, table: panderm.Table, embeddings: panderm.Embeddings
) -> None:
    assert embeddings.path is not None
    memory = encoder.embed(table, progress=False)
    assert memory.path is None
    assert memory.vectors.dtype == embeddings.vectors.dtype == np.float32
    np.testing.assert_array_equal(memory.vectors, embeddings.vectors)
    for column in ("image", "path", "sha256", "split", "label", "patient", "group", "row"):
        np.testing.assert_array_equal(getattr(memory.rows, column), getattr(embeddings.rows, column))
    assert memory.card.identity == embeddings.card.identity
    opened = panderm.open_embeddings(embeddings.path, encoder=encoder, table=table)
    np.testing.assert_array_equal(opened.vectors, embeddings.vectors)


def test_each_row_holds_the_vector_of_its_own_image(
    encoder: panderm.Encoder, table: panderm.Table, embeddings: panderm.Embeddings
) -> None:
    for i in (0, 7, 8, 41, len(table) - 1):
        own = encoder.encode(encoder.preprocess(panderm.read_image(table.path[i]))[None]).numpy()[0]
        np.testing.assert_allclose(embeddings.vectors[i], own, atol=BATCH_TOLERANCE)
        assert embeddings.rows.image[i] == table.image[i]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (5, 3), (64, 2)])
def test_batches_and_workers_do_not_matter(
    encoder: panderm.Encoder,
    table: panderm.Table,
    embeddings: panderm.Embeddings,
    batch_size: int,
    workers: int,
) -> None:
    few = table.select(np.arange(13))
    embedded = encoder.embed(few, batch_size=batch_size, workers=workers, progress=False)
    np.testing.assert_allclose(embedded.vectors, embeddings.vectors[:13], atol=BATCH_TOLERANCE)


def test_vectors_that_are_not_finite_name_their_images(tiny: panderm.Encoder, table: panderm.Table) -> None:
    def give(pixels: torch.Tensor) -> torch.Tensor:
        vectors = pixels.new_zeros(len(pixels), 192)
        vectors[1, 7] = float("nan")
        return vectors

    with pytest.raises(DataError) as caught:
        broken(tiny, give).embed(table.select(np.arange(3)), progress=False)
    assert str(caught.value) == (
        "every embedding must be finite.\n"
        f"  {table.image[1]}: NaN or infinite numbers came out\n"
        "  hint: use --precision fp32; if it stays so, the weights are damaged"
    )


def test_a_batch_of_nothing_is_refused(tiny: panderm.Encoder, table: panderm.Table) -> None:
    with pytest.raises(UsageError) as caught:
        tiny.embed(table, batch_size=0)
    assert str(caught.value) == "the batch size must be at least 1.\n  found 0"


# --- the record ----------------------------------------------------------


def test_the_record_survives_json(tiny: panderm.Encoder) -> None:
    text = tiny.record.model_dump_json()
    assert EncoderRecord.model_validate_json(text) == tiny.record
    assert panderm.Preprocess(**EncoderRecord.model_validate_json(text).preprocess) == tiny.preprocess
    with pytest.raises(ValidationError):
        EncoderRecord.model_validate_json(text.replace('"dim"', '"width"'))
    with pytest.raises(ValidationError):
        tiny.record.dim = 3


def test_the_record_and_the_encoder_agree(tiny: panderm.Encoder) -> None:
    assert (tiny.name, tiny.dim) == (tiny.record.name, tiny.record.dim) == ("random-tiny", 192)
    assert tiny.record.preprocess["std"] == [0.228, 0.224, 0.225]
    assert repr(tiny) == (
        "Encoder(random-tiny, dim=192, pool=cls, 186 tensors used; drawn at random from seed 0, "
        "weights drawn at random)"
    )
