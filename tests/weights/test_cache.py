"""The cache: where it lies, under which names, and that its record is believed and nothing else."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from panderm.errors import ArtifactError, PandermError, WeightsError
from panderm.weights.cache import (
    Held,
    Pulled,
    PulledFile,
    Source,
    cache_folder,
    folder_of,
    held,
    read_record,
    slug,
    verify,
    write_record,
)

CONTENT = b"weights" * 100
ENTRY = PulledFile(
    source=Source(kind="url", where="https://example.org/a", file="a.pth"),
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    at="2025-01-02T03:04:05+00:00",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "panderm"


def keep(name: str = "eye", *entries: PulledFile) -> Path:
    """Lay a file and its record into the cache, as a download does."""
    record = Pulled(name=name, licence="MIT", accepted=ENTRY.at, files=entries or (ENTRY,))
    write_record(record)
    for entry in record.files:
        path = folder_of(name) / entry.source.file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CONTENT)
    return folder_of(name) / record.files[0].source.file


def words(action: object, *args: object) -> str:
    with pytest.raises(PandermError) as caught:
        action(*args)  # type: ignore[operator]
    return f"{type(caught.value).__name__}: {caught.value}"


def test_the_folder_follows_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/big/cache")
    assert cache_folder() == Path("/big/cache/panderm")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    for unset in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        for system, wanted in (("Linux", ".cache"), ("Darwin", "Library/Caches"), ("Windows", ".cache")):
            monkeypatch.setattr(platform, "system", lambda system=system: system)
            monkeypatch.delenv("LOCALAPPDATA", raising=False)
            assert cache_folder() == Path("/home/ada") / wanted / "panderm"
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert cache_folder() == tmp_path / "Local" / "panderm" / "cache"


def test_an_account_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert words(cache_folder) == (
        "UsageError: there must be a folder for downloads.\n"
        "  this account has no home folder\n"
        "  hint: set XDG_CACHE_HOME to a folder of yours"
    )


def test_asking_makes_no_folder(folder: Path) -> None:
    assert held("eye") is None
    assert folder_of("eye") == folder / "weights" / "eye"
    assert not folder.exists()


def test_names_become_folders() -> None:
    assert slug("panderm-large") == "panderm-large"
    assert slug("hf-hub:ORG/NAME").startswith("hf-hub--ORG--NAME--")
    assert slug("timm:vit_small_patch14_dinov2.lvd142m").startswith("timm--vit_small_patch14_dinov2.")


NAMES = [
    *("eye", "Eye", "EYE", "e:ye", "e/ye", "e--ye", "e\\ye", "a b", "a_b", "ä", "ö", "", ".", "..", "../x"),
    *("hf-hub:A/b", "hf-hub:a/b", "hf-hub:a--b", "hf-hub--a--b", "/etc/passwd", "x" * 300, "x" * 301, "a\0b"),
    *("eye.", ".eye", "-eye", "eye\n", slug("Eye"), slug("hf-hub:A/b")),
]


def test_no_two_names_share_a_folder_even_where_capitals_are_small_letters() -> None:
    slugs = {slug(name).casefold() for name in NAMES}
    assert len(slugs) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leaves_the_cache(name: str, folder: Path) -> None:
    inside = folder_of(name)
    assert inside.resolve().parent == (folder / "weights").resolve()
    assert not inside.name.startswith((".", "-"))
    assert len(inside.name) < 120
    inside.mkdir(parents=True)


@pytest.mark.parametrize(
    "file",
    ["", "../a", "/a", "a/../b", "a//b", "a\\b", "c:a", ".a", "a/.b", "pulled.json", "a\0", "a.part", "a/"],
)
def test_a_source_stays_in_its_folder(file: str) -> None:
    with pytest.raises(ValidationError, match="must be a plain file name"):
        Source(kind="url", where="https://example.org/a", file=file)


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        *(("url", "ftp://example.org/a"), ("url", "file:///etc/passwd"), ("url", "https:///a")),
        *(("url", "https://example.org/ä"), ("url", "https://example.org/a b"), ("hub", "NAME")),
        *(("hub", "../NAME/x"), ("hub", "ORG/NAME@"), ("drive", "short"), ("drive", "id/with/slashes")),
    ],
)
def test_a_source_is_an_address(kind: str, where: str) -> None:
    with pytest.raises(ValidationError, match=f"is no address of kind {kind}"):
        Source(kind=kind, where=where, file="a.pth")  # type: ignore[arg-type]


def test_a_sources_numbers_are_checked() -> None:
    for wrong in ({"size": 0}, {"size": -1}, {"sha256": "abc"}, {"sha256": "g" * 64}):
        with pytest.raises(ValidationError):
            Source(kind="url", where="https://example.org/a", file="a.pth", **wrong)  # type: ignore[arg-type]
    assert Source(kind="url", where="https://e.org/a", file="a", sha256="A" * 64).sha256 == "a" * 64


def test_where_a_person_finds_a_file() -> None:
    found = [
        Source(kind="drive", where="1SwEzaOlFV_gBKf2", file="a.pth").location,
        Source(kind="hub", where="ORG/NAME", file="sub/a.bin").location,
        Source(kind="hub", where="ORG/NAME@v1", file="a.bin").location,
        Source(kind="url", where="https://example.org/a?b=1", file="a.pth").location,
    ]
    assert found == [
        "https://drive.google.com/file/d/1SwEzaOlFV_gBKf2/view",
        "https://huggingface.co/ORG/NAME/resolve/main/sub/a.bin",
        "https://huggingface.co/ORG/NAME/resolve/v1/a.bin",
        "https://example.org/a?b=1",
    ]


def test_what_was_recorded_is_held() -> None:
    path = keep()
    found = held("eye")
    assert found is not None
    assert found.path == path
    assert found.record.files == (ENTRY,)
    verify(found)
    record = json.loads((path.parent / "pulled.json").read_text("utf-8"))
    assert record["licence"] == "MIT"
    assert record["files"][0]["sha256"] == ENTRY.sha256
    path.unlink()
    assert held("eye") is None


def test_another_size_is_refused() -> None:
    path = keep()
    path.write_bytes(CONTENT[:-1])
    assert words(held, "eye") == (
        "WeightsError: weights must be those recorded when they were first downloaded.\n"
        f"  {path}: 700 bytes were recorded, it has 699\n"
        "  hint: delete this file and run: panderm models pull eye"
    )


def test_another_content_of_the_same_size_is_refused() -> None:
    path = keep()
    other = CONTENT[:-1] + b"!"
    path.write_bytes(other)
    found = held("eye")
    assert isinstance(found, Held)
    assert words(verify, found) == (
        "WeightsError: weights must be those recorded when they were first downloaded.\n"
        f"  {path}: sha256 {ENTRY.sha256[:12]}… was recorded, "
        f"it has {hashlib.sha256(other).hexdigest()[:12]}…\n"
        "  hint: delete this file and run: panderm models pull eye"
    )


def test_each_of_several_files_is_compared() -> None:
    second = ENTRY.model_copy(update={"source": ENTRY.source.model_copy(update={"file": "sub/b.pth"})})
    keep("eye", ENTRY, second)
    found = held("eye")
    assert found is not None
    verify(found)
    found.paths[1].write_bytes(CONTENT[::-1])
    with pytest.raises(WeightsError):
        verify(found)
    found.paths[1].write_bytes(b"")
    with pytest.raises(WeightsError):
        held("eye")
    found.paths[1].unlink()
    assert held("eye") is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Invalid JSON"),
        (b'{"format": 1, "name": "eye"', "Invalid JSON"),
        (b"{}", "name: Field required"),
        (b"[]", "Input should be an object"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
def test_a_damaged_record_is_not_passed_over(content: bytes, says: str) -> None:
    path = keep().parent / "pulled.json"
    path.write_bytes(content)
    said = words(held, "eye")
    assert said.startswith(
        f"ArtifactError: the record of the downloaded weights of eye must be whole.\n  {path}: {says}"
    )
    assert said.endswith(f"hint: delete the folder {path.parent} and run: panderm models pull eye")


def test_a_record_may_not_name_a_file_elsewhere() -> None:
    path = keep().parent / "pulled.json"
    path.write_text(path.read_text("utf-8").replace("a.pth", "../../a.pth"), "utf-8")
    with pytest.raises(ArtifactError, match="must be whole"):
        held("eye")


def test_a_record_of_another_encoder_is_refused() -> None:
    keep("eye").parent.rename(folder_of("ear"))
    path = folder_of("ear") / "pulled.json"
    assert words(read_record, "ear") == (
        "ArtifactError: the record of the downloaded weights of ear must be whole.\n"
        f"  {path} speaks of eye\n"
        f"  hint: delete the folder {path.parent} and run: panderm models pull ear"
    )


def test_the_cache_is_light() -> None:
    code = (
        "import sys, panderm.weights.cache, panderm.weights.download\n"
        "print([m for m in ('torch', 'timm', 'numpy', 'gdown', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
