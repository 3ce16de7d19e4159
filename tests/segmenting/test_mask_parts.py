"""Parts of predicted masks: native size, bands, components, outlines, files; each against another answer."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
import torch
from PIL import Image
from scipy import ndimage
from shapely.geometry import shape

import panderm
from panderm.errors import ArtifactError, DataError, TableError, UsageError
from panderm.segmenting.predicting import native, opened
from panderm.segmenting.predicting.contours import contours_text
from panderm.segmenting.predicting.files import Wanted, entropy, mask_names
from panderm.segmenting.predicting.flips import answer
from panderm.segmenting.predicting.native import Kept, Stretched, at_native
from panderm.segmenting.predicting.opened import Strips, Whole, open_image, scaled
from panderm.segmenting.predicting.packed import PackedMask
from panderm.segmenting.predicting.png import ends_whole, write_png
from panderm.segmenting.predicting.regions import Tidying, tidied
from panderm.segmenting.predicting.rings import outlines
from panderm.segmenting.predicting.windows import starts, taper, through_windows

from darkness import Darkness, LeftIsSure  # isort: skip

ALL_AROUND = np.ones((3, 3))


@pytest.fixture
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows at a time, so that every test image has several bands."""
    monkeypatch.setattr(native, "BAND", 50)


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    drawn = [
        rng.random((int(h), int(w))) < p
        for h, w, p in zip(
            rng.integers(1, 30, 24), rng.integers(1, 30, 24), np.linspace(0, 1, 24), strict=True
        )
    ]
    blobs = [ndimage.binary_opening(rng.random((40, 33)) < 0.75) for _ in range(6)]
    ring = np.zeros((9, 9), dtype=bool)
    ring[1:8, 1:8], ring[2:7, 2:7], ring[4, 4] = True, False, True
    corner = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 1, 0]], dtype=bool)
    return [*drawn, *blobs, ring, corner, np.eye(5, dtype=bool), ~np.eye(5, dtype=bool)]


# Native size


@pytest.mark.parametrize("shape", [(37, 91), (8, 8), (5, 3), (1, 1), (1, 40)])
def test_the_answer_is_brought_to_native_size_as_pytorch_does(
    shape: tuple[int, int], small_bands: None
) -> None:
    small = np.random.default_rng(0).random((8, 8), dtype=np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(small)[None, None], size=shape, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(at_native(small, *shape), wanted[0, 0].numpy(), atol=2e-6)


def test_a_centred_disc_stays_centred() -> None:
    y, x = np.mgrid[:32, :32]
    disc = ((x - 15.5) ** 2 + (y - 15.5) ** 2 < 64).astype(np.float32)
    mask = at_native(disc, 330, 510) >= 0.5
    rows, columns = np.nonzero(mask)
    assert abs(rows.mean() - 164.5) < 1e-6
    assert abs(columns.mean() - 254.5) < 1e-6


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(DataError, match="map of probabilities"):
        at_native(np.zeros(3), 2, 2)


def test_bands_do_not_change_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.random.default_rng(1).random((16, 16), dtype=np.float32)
    whole = at_native(small, 61, 43)
    monkeypatch.setattr(native, "BAND", 100)
    assert len(list(Stretched(small, 61, 43).bands())) > 10
    np.testing.assert_array_equal(at_native(small, 61, 43), whole)


@pytest.mark.parametrize("spread", [False, True])
def test_probabilities_are_kept_on_disk_where_they_are_many(
    tmp_path: Path, spread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_IN_MEMORY", 100)
    monkeypatch.setattr(native, "BAND", 70)
    given = np.random.default_rng(0).random((2, 23, 17), dtype=np.float32)
    kept = Kept(23, 17, tmp_path, spread=spread)
    with pytest.raises(DataError, match="every row"):
        list(kept.bands())
    for top in range(0, 23, 5):
        rows = slice(top, top + 5)
        kept.add(given[0, rows], given[1, rows] if spread else None)
    assert kept._file is not None
    for _ in range(2):
        bands = list(kept.bands())
        np.testing.assert_array_equal(np.concatenate([one.probability for one in bands]), given[0])
        if spread:
            np.testing.assert_array_equal(np.concatenate([one.spread for one in bands]), given[1])
    kept.close()
    assert list(tmp_path.iterdir()) == []  # it has no name: nothing is left of it


# Components, holes


def test_components_and_holes_are_those_of_scipy(small_bands: None) -> None:
    for mask in masks():
        packed = PackedMask.of(mask)
        np.testing.assert_array_equal(packed.whole(), mask)
        labels, n = ndimage.label(mask, ALL_AROUND)
        sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
        assert packed.area == mask.sum()
        assert tidied(packed, Tidying())[1] == n
        filled, parts = tidied(packed, Tidying(fill_holes=True))
        wanted = ndimage.binary_fill_holes(mask)
        np.testing.assert_array_equal(filled.whole(), wanted)
        assert parts == ndimage.label(wanted, ALL_AROUND)[1]
        kept, parts = tidied(packed, Tidying(min_area=4))
        np.testing.assert_array_equal(kept.whole(), np.isin(labels, 1 + np.flatnonzero(sizes >= 4)))
        assert parts == (sizes >= 4).sum()
        one, parts = tidied(packed, Tidying(largest=True))
        assert (one.area, parts) == ((sizes.max(), 1) if n else (0, 0))
        assert ndimage.label(one.whole(), ALL_AROUND)[1] == parts


def test_a_hole_of_a_part_that_was_dropped_is_not_filled() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[1:4, 1:4], mask[2, 2] = True, False
    mask[6:19, 6:19], mask[10:12, 10:12] = True, False
    kept, parts = tidied(PackedMask.of(mask), Tidying(largest=True, fill_holes=True))
    wanted = np.zeros((20, 20), dtype=bool)
    wanted[6:19, 6:19] = True
    np.testing.assert_array_equal(kept.whole(), wanted)
    assert parts == 1


# Outlines


def test_outlines_are_valid_polygons_of_the_masks_area(small_bands: None) -> None:
    for mask in masks():
        packed = PackedMask.of(mask)
        told = json.loads(contours_text(packed, "a.jpg", "geojson"))
        polygons = [shape(one["geometry"]) for one in told["features"]]
        assert (told["width"], told["height"]) == (mask.shape[1], mask.shape[0])
        assert len(polygons) == ndimage.label(mask)[1]
        for feature, polygon in zip(told["features"], polygons, strict=True):
            assert polygon.is_valid, shapely.is_valid_reason(polygon)
            assert polygon.exterior.is_ccw
            assert not any(hole.is_ccw for hole in polygon.interiors)
            assert polygon.area == feature["properties"]["area_px"]
            assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])
        assert sum(polygon.area for polygon in polygons) == mask.sum()
        y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
        inside = shapely.contains_xy(shapely.unary_union(polygons), x + 0.5, y + 0.5)
        np.testing.assert_array_equal(inside, mask)


def test_an_outline_of_two_pixels_by_hand() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[1, 2:4] = True
    (part,) = outlines(PackedMask.of(mask))
    assert part.exterior.tolist() == [[2, 1], [4, 1], [4, 2], [2, 2]]
    assert (part.holes, part.area) == ((), 2)


def test_contours_as_csv_have_a_row_a_corner() -> None:
    mask = np.ones((3, 3), dtype=bool)
    mask[1, 1] = False
    rows = list(csv.DictReader(io.StringIO(contours_text(PackedMask.of(mask), "a.jpg", "csv"))))
    assert [row["kind"] for row in rows] == ["exterior"] * 4 + ["hole"] * 4
    hole = [(int(row["x"]), int(row["y"])) for row in rows if row["kind"] == "hole"]
    assert sorted(hole) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_nothing_has_no_outline() -> None:
    told = json.loads(contours_text(PackedMask(4, 4), "a.jpg", "geojson"))
    assert (told["type"], told["features"]) == ("FeatureCollection", [])


# Files


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (16, np.uint16)])
def test_a_map_is_read_by_others_as_it_was_written(tmp_path: Path, bits: int, kind: type) -> None:
    given = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (31, 7), endpoint=True).astype(kind)
    file = tmp_path / "a.png"
    write_png(file, 7, 31, bits, iter([given[:10], given[10:11], given[11:]]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), given)
    with Image.open(file) as image:
        np.testing.assert_array_equal(np.asarray(image), given)


@pytest.mark.parametrize("width", [1, 8, 13])
def test_a_mask_is_a_file_of_one_bit_a_pixel(tmp_path: Path, width: int) -> None:
    mask = np.random.default_rng(0).random((9, width)) < 0.5
    file = tmp_path / "a.png"
    write_png(file, width, 9, 1, [PackedMask.of(mask).bits])
    with Image.open(file) as image:
        assert image.mode == "1"
        np.testing.assert_array_equal(np.asarray(image), mask)
    assert ends_whole(file)
    with pytest.raises(ArtifactError, match="must not exist"):
        write_png(file, width, 9, 1, [PackedMask.of(mask).bits])
    file.write_bytes(file.read_bytes()[:-5])
    assert not ends_whole(file)
    assert not ends_whole(tmp_path / "none.png")


def test_rows_that_are_missing_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4 rows of 5"):
        write_png(tmp_path / "a.png", 8, 5, 1, [np.zeros((4, 1), dtype=np.uint8)])
    assert list(tmp_path.iterdir()) == []


def test_a_mask_has_its_images_name_and_stays_below_the_output() -> None:
    plain = Wanted()
    names = ["a/b.jpg", "../c.png", "/data/d.v2.tif", "C:\\pictures\\e.jpg", ".."]
    assert mask_names(names, plain) == ["a/b.png", "c.png", "data/d.v2.png", "pictures/e.png", "image.png"]
    assert mask_names(["/data/in/a.jpg", "/data/in/b/c.jpg"], plain) == ["a.png", "b/c.png"]
    assert mask_names(["images/a.jpg"], plain) == ["a.png"]
    with pytest.raises(TableError, match=r"both be a\.png|both be A\.png"):
        mask_names(["a.jpg", "A.png"], plain)
    assert mask_names(["confidence/a.jpg", "a.jpg"], plain)
    assert mask_names(["abc/x.png", "abd/x.png"], plain) == ["abc/x.png", "abd/x.png"]
    with pytest.raises(TableError, match=r"both be confidence/a\.png"):
        mask_names(["confidence/a.jpg", "a.jpg"], Wanted(confidence=True))


def test_entropy_is_one_bit_at_a_half() -> None:
    np.testing.assert_allclose(entropy([0, 0.11, 0.5, 1]), [0, 0.49992, 1, 0], atol=1e-4)


# Large images


def test_a_large_image_by_strips_is_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "LARGE", 1000)
    monkeypatch.setattr(native, "BAND", 3000)
    rgb = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(rgb, (0, 0), 2)
    images = {
        "a.png": rgb,
        "b.jpg": smooth,
        "c.tif": rgb,
        "grey.png": rgb[:, :, 0],
        "grey.jpg": smooth[:, :, 0],
    }
    for name, pixels in images.items():
        Image.fromarray(pixels).save(tmp_path / name)
        found = open_image(tmp_path / name, max_megapixels=1)
        assert isinstance(found, Strips), name
        assert len(list(found.bands())) == 2
        np.testing.assert_array_equal(found.whole(), panderm.read_image(tmp_path / name), err_msg=name)
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(smooth).save(tmp_path / "turned.jpg", exif=turned)
    whole = open_image(tmp_path / "turned.jpg", max_megapixels=1)
    assert isinstance(whole, Whole)
    assert whole.shape == (83, 61)
    small = open_image(tmp_path / "a.png", max_megapixels=1)
    monkeypatch.setattr(opened, "reads_strips", lambda: False)
    np.testing.assert_array_equal(open_image(tmp_path / "a.png", max_megapixels=1).whole(), small.whole())


def test_damage_within_a_large_image_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "LARGE", 1000)
    rgb = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[5000] ^= 0xFF
    (tmp_path / "a.png").write_bytes(content)
    found = open_image(tmp_path / "a.png", max_megapixels=1)
    with pytest.raises(panderm.PandermError, match="must be readable"):
        found.whole()


def test_a_large_image_is_scaled_by_area_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "BAND", 700)
    rgb = np.random.default_rng(0).integers(0, 256, (123, 217, 3), dtype=np.uint8)
    assert scaled(Whole(rgb), 40) is rgb  # it is not large
    monkeypatch.setattr(opened, "LARGE", 1000)
    assert scaled(Whole(rgb), 70) is rgb  # nor is it twice what is needed
    made = scaled(Whole(rgb), 40)
    wanted = cv2.resize(rgb, (made.shape[1], made.shape[0]), interpolation=cv2.INTER_AREA)
    assert made.shape == (40, 71, 3)
    assert np.abs(made.astype(int) - wanted).max() <= 1


# Windows


def test_windows_cover_an_image_evenly() -> None:
    assert starts(100, 100, 0.25) == starts(60, 100, 0.25) == [0]
    for length, side, overlap in ((1000, 64, 0.25), (101, 100, 0.0), (500, 100, 0.5)):
        found = starts(length, side, overlap)
        assert (found[0], found[-1]) == (0, length - side)
        assert max(np.diff(found)) <= round(side * (1 - overlap)) + 1
    assert taper(4).tolist() == [0.25, 0.75, 0.75, 0.25]


@pytest.mark.parametrize(
    ("side", "overlap", "batch"), [(32, 0.25, 3), (32, 0.0, 1), (24, 0.6, 2), (500, 0.25, 2)]
)
def test_windows_of_a_model_that_sees_pixels_alone_give_the_whole(
    side: int, overlap: float, batch: int, small_bands: None
) -> None:
    """Whatever the windows, an answer that depends on one pixel is that of the image at once."""
    rgb = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (75, 110, 3), dtype=np.uint8), (0, 0), 3)

    def ask(windows: list[np.ndarray]) -> tuple[np.ndarray, None]:
        return np.stack([np.clip(one.astype(np.float32).mean(axis=2) / 255, 0, 1) for one in windows]), None

    kept = through_windows(
        Whole(rgb), ask, side=side, overlap=overlap, batch=batch, folder=None, spread=False
    )
    found = np.concatenate([band.probability for band in kept.bands()])
    np.testing.assert_allclose(found, rgb.astype(np.float32).mean(axis=2) / 255, atol=1e-5)


# Views


def test_views_are_turned_back() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    model = Darkness(size=8)
    alone, nothing = answer(model, rgb, 1)
    assert nothing is None
    for views in (2, 4, 8):
        mean, spread = answer(model, rgb, views)
        np.testing.assert_allclose(mean, alone, atol=1e-6)
        assert spread is not None
        assert spread.max() < 1e-6


def test_views_that_lie_apart_are_seen() -> None:
    mean, spread = answer(LeftIsSure(size=8), np.zeros((1, 8, 8, 3), dtype=np.uint8), 2)
    assert spread is not None
    assert (np.unique(mean).tolist(), np.unique(spread).tolist()) == ([0.5], [0.5])


def test_wanted_knows_what_it_can_write() -> None:
    with pytest.raises(UsageError, match="geojson or csv"):
        Wanted(contours="shp")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="8 or 16"):
        Wanted(depth=12)  # type: ignore[arg-type]
