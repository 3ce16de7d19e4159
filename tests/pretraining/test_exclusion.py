"""What must not be learned from is found: by file, name, patient and picture; and told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from panderm.data.drawn import DrawnWorld
from panderm.data.streams import ImageSource, open_source
from panderm.errors import ArtifactError, DataError, PandermWarning
from panderm.pretraining.exclusion import exclude, read_excluded, stem

WAYS = ("q70", "half", "mirror", "turn", "bright")


@pytest.fixture(scope="module")
def source(world: DrawnWorld) -> ImageSource:
    return open_source(world.csv, images=world.images)


@pytest.fixture(scope="module")
def copies(source: ImageSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first images of the world under other names, saved anew in five ways, as another set."""
    folder = tmp_path_factory.mktemp("copies")
    for k in range(10):
        image = Image.open(io.BytesIO(source.read(k))).convert("RGB")
        way = WAYS[k % len(WAYS)]
        if way == "half":
            image = image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS)
        elif way == "mirror":
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        elif way == "turn":
            image = image.transpose(Image.Transpose.ROTATE_90)
        elif way == "bright":
            image = ImageEnhance.Brightness(image).enhance(1.15)
        image.save(folder / f"evaluation_{k:06d}.jpg", quality=70 if way == "q70" else 90)
    return folder


def test_the_rows_of_a_split_are_found_by_their_files(source: ImageSource, world: DrawnWorld) -> None:
    table = pd.read_csv(world.csv, dtype=str)
    rest, excluded = exclude(
        source, [world.csv], images=world.images, split="test", near=False, progress=False
    )
    out = table.image[table.split == "test"]
    named = {match.image for match in excluded.matches if match.reason != "same patient"}
    assert named == set(out)
    assert excluded.counts["same file"] == len(out)
    assert set(rest.names()) == set(table.image) - {m.image for m in excluded.matches}
    told = json.loads(json.dumps(excluded.record))
    assert told["excluded"] == sum(told["by"].values()) == len(excluded.matches)
    assert excluded.sentences()[0].startswith(f"{len(excluded.matches)} images of {len(source)} left out")


def test_the_same_photograph_is_found_under_another_name(
    source: ImageSource, copies: Path, tmp_path: Path
) -> None:
    other = source.select(np.arange(40))
    rest, excluded = exclude(other, [copies], workers=2, progress=False)
    near = {m.position: m for m in excluded.matches if m.reason == "near-duplicate"}
    assert set(near) == set(range(10))
    for position, match in near.items():
        assert match.like == f"evaluation_{position:06d}.jpg"
        assert match.similarity is not None
        assert match.similarity > 0.85
    assert {m.reason for m in excluded.matches} <= {"near-duplicate", "same patient"}
    assert len(rest) == 40 - len(excluded.matches)
    excluded.write(tmp_path / "excluded.csv")
    again = read_excluded(tmp_path / "excluded.csv", other)
    assert again.record["sha256"] == rest.record["sha256"]
    with pytest.raises(ArtifactError, match="of this source"):
        read_excluded(tmp_path / "excluded.csv", source.select(np.arange(20, 60)))
    (tmp_path / "excluded.csv").write_text("no,such,columns\n1,2,3\n")
    with pytest.raises(ArtifactError, match="readable"):
        read_excluded(tmp_path / "excluded.csv", other)


def test_names_and_patients_are_held_against_lists(tmp_path: Path, world: DrawnWorld) -> None:
    images = {"ISIC_0000001.jpg": "P1", "ISIC_0000002.jpg": "P1", "17.jpg": "P2", "ISIC_0000004.jpg": "12"}
    ours = tmp_path / "ours.csv"
    ours.write_text("image,patient_id\n" + "".join(f"{k},{v}\n" for k, v in images.items()))
    source = open_source(ours)

    def out(text: str, **options: object) -> dict[str, str]:
        theirs = tmp_path / "theirs.csv"
        theirs.write_text(text)
        with pytest.warns(PandermWarning, match="by name only"):
            _, excluded = exclude(source, [theirs], near=False, progress=False, **options)  # type: ignore[arg-type]
        return {m.image: m.reason for m in excluded.matches}

    # Another folder, ending and case; the patient's other image goes too.
    assert out("image\nx/isic_0000001.PNG\n") == {
        "ISIC_0000001.jpg": "same name",
        "ISIC_0000002.jpg": "same patient",
    }
    # A plain number is another image in another table, and another patient; words are not.
    assert out("image,patient\n17.jpg,12\nz.jpg,P2\n") == {"17.jpg": "same patient"}
    listed = tmp_path / "listed.txt"
    listed.write_text("17\n")
    with pytest.warns(PandermWarning):
        _, excluded = exclude(source, [listed], progress=False)
    assert [m.image for m in excluded.matches] == ["17.jpg"]
    _, excluded = exclude(source, patients=["12"], progress=False)
    assert [(m.image, m.like) for m in excluded.matches] == [("ISIC_0000004.jpg", "patient 12")]
    with pytest.raises(DataError, match="at least one image"):
        exclude(source, patients=["12", "P1", "P2"], progress=False)


def test_nothing_is_taken_from_a_source_that_shares_nothing(source: ImageSource, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(4):
        noise = Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
        noise.save(tmp_path / f"noise_{k:06d}.png")
    (tmp_path / "damaged_000001.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (tmp_path / "flat_000001.png").write_bytes(_flat())
    rest, excluded = exclude(source, [tmp_path], workers=2, progress=False)
    assert excluded.matches == ()
    assert rest is source
    assert excluded.named == excluded.at_hand == 6
    # And a damaged image of the source is told, not fatal.
    _, excluded = exclude(open_source(tmp_path), [source], workers=2, progress=False)
    assert excluded.bad == 1
    assert any("could not be read" in line for line in excluded.sentences())


def test_a_picture_that_is_not_at_hand_is_the_sources_own_of_that_name(
    source: ImageSource, copies: Path, tmp_path: Path
) -> None:
    """Only the name of an evaluation image is known; its copy under another name is found all the same."""
    both = open_source([copies, source.record["where"]], images=Path(source._root))  # type: ignore[attr-defined]
    listed = tmp_path / "evaluation.txt"
    listed.write_text(source.name(0) + "\n")
    with pytest.warns(PandermWarning):
        _, excluded = exclude(both, [listed], workers=2, progress=False)
    found = {m.image.rpartition("/")[2]: m.reason for m in excluded.matches if m.reason != "same patient"}
    assert found == {source.name(0): "same name", "evaluation_000000.jpg": "near-duplicate"}


def test_stems_drop_folders_and_endings_of_images_only() -> None:
    assert stem("a\\b/ISIC_1.JPEG") == "isic_1"
    assert stem("scan.2019.001") == "scan.2019.001"


def _flat() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (80, 80), (200, 150, 120)).save(buffer, "PNG")
    return buffer.getvalue()
