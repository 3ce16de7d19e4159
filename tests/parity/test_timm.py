"""timm's encoders and transforms, and torchvision's: the same vectors and pixels as without panderm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from torch.nn import functional
from torchvision import transforms

import panderm
from panderm.errors import UsageError
from panderm.models.cards import KNOWN
from panderm.models.from_timm import timm_preprocess
from panderm.models.names import find_card

VECTOR_TOLERANCE = 1e-6  # the same arithmetic; where the weights lie in memory may decide the last bit
POSITION_TOLERANCE = 1e-6
PIXEL_TOLERANCE = 0.0  # pixel for pixel, bit for bit

# name, tensors of its classifier, what is said of its pooling
ARCHITECTURES = [
    ("vit_tiny_patch16_224", 2, "cls"),
    ("resnet18", 2, "mean"),
    ("convnext_atto", 2, "timm"),
    ("mobilenetv3_small_050", 2, "mean"),  # widens its features before the classifier
    ("test_mambaout", 2, "timm"),  # so does this
    ("test_vit2", 2, "mean"),
    ("test_vit3", 2, "map"),
    ("levit_128s", 14, "mean"),  # two classifiers, each with its norm
]
SIZES = [(90, 120), (150, 90), (30, 20), (256, 256), (257, 301), (1, 3)]  # height, width


def drawn_image(height: int, width: int) -> np.ndarray:
    """A smooth gradient with noise: wrong filters and shifts both show."""
    rng = np.random.default_rng(height * 1000 + width)
    rows, columns = np.linspace(0, 120, height)[:, None], np.linspace(0, 100, width)[None]
    smooth = (rows + columns)[..., None] + np.array([0, 15, 30])
    return np.clip(smooth + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)


def drawn_model(name: str, **options: Any) -> torch.nn.Module:
    """timm's model with random weights; nothing is left at 0 or 1, where a mistake would not show."""
    torch.manual_seed(7)
    model = timm.create_model(name, pretrained=False, **options).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif key.endswith("num_batches_tracked"):
                value.fill_(1234)
            elif key.endswith("bias") or key == "pos_embed":
                value.normal_(0, 0.05)
            elif value.ndim == 1:  # scales of norms and layers
                value.normal_(1, 0.2)
    return model


def save_model(model: torch.nn.Module, folder: Path) -> Path:
    path = folder / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


def own_vectors(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.forward_head(model.forward_features(pixels), pre_logits=True)


def assert_same(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=0, atol=VECTOR_TOLERANCE)


@pytest.mark.parametrize(("name", "classifier", "pool"), ARCHITECTURES)
def test_vectors_are_timms_own(name: str, classifier: int, pool: str, tmp_path: Path) -> None:
    model = drawn_model(name)
    weights = save_model(model, tmp_path)
    encoder = panderm.load_encoder(f"timm:{name}", weights=weights, device="cpu")
    pixels = torch.randn(2, 3, encoder.record.image_size, encoder.record.image_size)
    vectors = encoder.encode(pixels)
    assert_same(vectors, own_vectors(model, pixels))
    assert vectors.shape == (2, encoder.dim)
    assert vectors.std() > 0
    assert encoder.record.pool == pool
    used = len(timm.create_model(name, num_classes=0).state_dict())
    assert str(encoder.account) == f"{used} tensors used; {classifier} dropped (classifier)"
    assert used + classifier == len(model.state_dict())


def test_counters_of_batch_norm_stay_whole_numbers(tmp_path: Path) -> None:
    weights = save_model(drawn_model("resnet18"), tmp_path)
    network = panderm.load_encoder("timm:resnet18", weights=weights, device="cpu")._network
    assert network.bn1.num_batches_tracked.dtype == torch.int64
    assert network.bn1.num_batches_tracked == 1234


def test_a_file_without_classifier_loads_as_well(tmp_path: Path) -> None:
    model = drawn_model("convnext_atto", num_classes=0)
    encoder = panderm.load_encoder("timm:convnext_atto", weights=save_model(model, tmp_path), device="cpu")
    pixels = torch.randn(1, 3, 224, 224)
    assert_same(encoder.encode(pixels), own_vectors(model, pixels))
    assert str(encoder.account) == "126 tensors used"


@pytest.mark.parametrize("size", [64, 96])
def test_a_convolutional_network_takes_any_size(size: int, tmp_path: Path) -> None:
    model = drawn_model("test_resnet")
    encoder = panderm.load_encoder(
        "timm:test_resnet", weights=save_model(model, tmp_path), image_size=size, device="cpu"
    )
    pixels = torch.randn(2, 3, size, size)
    assert_same(encoder.encode(pixels), own_vectors(model, pixels))
    assert encoder.preprocess(drawn_image(90, 120)).shape == (3, size, size)


def test_mean_pooling_is_asked_of_a_cls_network(tmp_path: Path) -> None:
    model = drawn_model("vit_tiny_patch16_224")
    encoder = panderm.load_encoder(
        "timm:vit_tiny_patch16_224", weights=save_model(model, tmp_path), pool="mean", device="cpu"
    )
    pixels = torch.randn(2, 3, 224, 224)
    averaged = drawn_model("vit_tiny_patch16_224", num_classes=0, global_pool="avg")
    state = {
        key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: value
        for key, value in model.state_dict().items()
        if not key.startswith("head.")
    }
    averaged.load_state_dict(state, strict=True)
    with torch.inference_mode():
        assert_same(encoder.encode(pixels), averaged(pixels))
    assert str(encoder.account) == "150 tensors used; 2 dropped (classifier); norm used as fc_norm"
    assert encoder.record.pool == "mean"


# name, its own size, tokens before the patches that have a position, patch, size asked for
GRIDS = [
    ("vit_tiny_patch16_224", 224, 1, 16, 112),
    ("vit_tiny_patch16_224", 224, 1, 16, 256),
    ("test_vit", 160, 1, 16, 224),
    ("vit_wee_patch16_reg1_gap_256", 256, 0, 16, 128),  # its register has no position
]


@pytest.mark.parametrize(("name", "own", "prefix", "patch", "asked"), GRIDS)
def test_positions_are_resized_bicubic_without_antialias(
    name: str, own: int, prefix: int, patch: int, asked: int, tmp_path: Path
) -> None:
    model = drawn_model(name)
    encoder = panderm.load_encoder(
        f"timm:{name}", weights=save_model(model, tmp_path), image_size=asked, device="cpu"
    )
    table, old, new = model.state_dict()["pos_embed"], own // patch, asked // patch
    assert table.shape[1] == prefix + old * old
    grid = table[:, prefix:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False, antialias=False)
    resized = torch.cat([table[:, :prefix], grid.permute(0, 2, 3, 1).reshape(1, new * new, -1)], dim=1)
    torch.testing.assert_close(encoder._network.pos_embed, resized, rtol=0, atol=POSITION_TOLERANCE)

    reference = timm.create_model(name, img_size=asked).eval()
    reference.load_state_dict(model.state_dict() | {"pos_embed": encoder._network.pos_embed}, strict=True)
    pixels = torch.randn(2, 3, asked, asked)
    assert_same(encoder.encode(pixels), own_vectors(reference, pixels))
    assert encoder.record.image_size == encoder.preprocess.crop == asked
    note = f"position table resized from {old}×{old} to {new}×{new}, bicubic"
    assert encoder.account.notes == [note]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_tiny_patch16_224", None),  # crop_pct .9, bicubic
        ("vit_tiny_patch16_224", 112),
        ("resnet18", None),
        ("resnet18", 100),
        ("tf_efficientnet_b0", None),
        ("inception_v3", None),  # 299 pixels
        ("vit_small_patch14_dinov2", 224),  # crop_pct 1
        ("vit_base_patch16_clip_224", None),  # another mean and std
        ("vit_base_patch16_siglip_224", None),  # squash
    ],
)
@pytest.mark.parametrize("shape", SIZES)
def test_pixels_are_timms_own(name: str, size: int | None, shape: tuple[int, int]) -> None:
    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    if size is not None:
        config["input_size"] = (3, size, size)
    image = drawn_image(*shape)
    expected = create_transform(**config, is_training=False)(Image.fromarray(image))
    ours = find_card(f"timm:{name}", image_size=size).preprocess(image)
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours, expected, rtol=0, atol=PIXEL_TOLERANCE)


def test_every_way_timm_prepares_pixels() -> None:
    """One image through each combination of crop and filter that any of timm's models uses."""
    seen = set()
    image = drawn_image(90, 120)
    for name in timm.list_models():
        config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        way = (
            config["crop_pct"],
            config["crop_mode"],
            config["interpolation"],
            config["mean"],
            config["std"],
        )
        if way in seen or config["crop_mode"] == "border":
            continue
        seen.add(way)
        expected = create_transform(**config | {"input_size": (3, 96, 96)}, is_training=False)
        ours = timm_preprocess(config, 96)(image)
        torch.testing.assert_close(ours, expected(Image.fromarray(image)), rtol=0, atol=PIXEL_TOLERANCE)
    assert len(seen) > 20


def test_padding_is_refused_rather_than_cropped() -> None:
    pads = [name for name in timm.list_models() if timm.get_pretrained_cfg(name).crop_mode == "border"]
    if not pads:
        pytest.skip(f"timm {timm.__version__} has no model that pads its images")
    with pytest.raises(UsageError) as caught:
        find_card(f"timm:{pads[0]}")
    assert str(caught.value) == (
        f"timm:{pads[0]} pads images to a square, which panderm cannot: choose another encoder."
    )


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("card", KNOWN[:2], ids=lambda card: card.name)
def test_panderms_pixels_are_torchvisions(card: Any, shape: tuple[int, int]) -> None:
    image = drawn_image(*shape)
    published = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.228, 0.224, 0.225)),
        ]
    )
    assert torch.equal(card.preprocess(image), published(Image.fromarray(image)))


def test_two_pictures_of_one_lesion_are_nearest_to_each_other(shared: Path) -> None:
    """Real weights on real images: the DINOv2 file at 224 pixels."""
    weights, ham = shared / "weights" / "dinov2_vits14.safetensors", shared / "data" / "ham10000"
    if not weights.is_file():
        pytest.skip(f"no real weights: {weights} is not there")
    encoder = panderm.load_encoder(
        "timm:vit_small_patch14_dinov2", weights=weights, image_size=224, device="cpu"
    )
    assert str(encoder.account) == ("174 tensors used; position table resized from 37×37 to 16×16, bicubic")
    rows = pd.read_csv(ham / "ham_clean.csv").drop_duplicates("image")
    twins = rows[rows.lesion_id == "HAM_0002730"].image.tolist()[:2]
    others = rows[rows.lesion_id != "HAM_0002730"].image.sample(2, random_state=0).tolist()
    images = [panderm.read_image(ham / "images" / name) for name in twins + others]
    vectors = encoder.encode(torch.stack([encoder.preprocess(image) for image in images]))
    assert vectors.shape == (4, 384)
    assert vectors.isfinite().all()
    unit = functional.normalize(vectors)
    likeness = unit @ unit.T - 2 * torch.eye(4)
    assert likeness[0].argmax() == 1
    assert likeness[1].argmax() == 0


def test_an_encoder_of_another_shape_is_refused():
    name = next(n for n in timm.list_models("vit_*_sapiens2*"))
    with pytest.raises(UsageError, match="images that are not square"):
        panderm.load_encoder(f"timm:{name}", weights="any.safetensors")
