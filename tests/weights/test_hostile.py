"""Hostile and broken weights files: each is refused in one plain message, nothing is run, little is held.

What a file says is written here byte by byte where no honest writer would write it.
"""

from __future__ import annotations

import argparse
import builtins
import datetime
import errno
import io
import json
import math
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import warnings
import zipfile
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from weigh import weigh

from panderm.errors import WeightsError
from panderm.weights.account import Account, match
from panderm.weights.checkpoint import read_header, read_state
from panderm.weights.stored import NotWholeError, Spec, Stored, read_tensors

MIB = 1 << 20
State = dict[str, torch.Tensor]
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
posix = pytest.mark.skipif(os.name != "posix", reason="no such files on this system")
NOT_WHOLE = "a weights file must be whole.\n"
HOLDS_CODE = "a weights file must hold tensors, not code.\n"


def plain(said: str, path: Path) -> str:
    """Return a message after a look at its form: a short paragraph that a terminal can be shown."""
    lines = said.splitlines()
    assert 1 <= len(lines) <= 4, said
    assert all(line.isprintable() for line in lines), ascii(said)
    assert len(said) < 800 + len(str(path)), said
    assert "weights_only" not in said  # PyTorch's advice to trust the file
    return said


def refused(path: Path, *, outlined: bool = True) -> str:
    """Return the refusal of a file; its outline is refused in the same words."""
    with pytest.raises(WeightsError) as caught:
        read_state(path, Account())
    if outlined:
        with pytest.raises(WeightsError) as again:
            read_state(path, Account(), data=False)
        assert str(again.value) == str(caught.value)
    return plain(str(caught.value), path)


def refused_bytes(tmp_path: Path, content: bytes, **options: Any) -> str:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    return refused(path, **options)


# --- Writers -----------------------------------------------------


def text(word: str) -> bytes:
    """Push a text."""
    raw = word.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def zipped(pickled: bytes, records: dict[str, bytes] | None = None) -> bytes:
    """An archive as torch.save lays it out, around a pickle of ours."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, content in (records or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
VERSION = pickle.dumps(1001, 2)
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)


def in_a_row(pickled: bytes, storages: dict[str, tuple[int, bytes]] | None = None) -> bytes:
    """A file as torch.save wrote it before version 1.6, around a pickle of ours."""
    storages = storages or {}
    numbers = b"".join(struct.pack("<q", numel) + content for numel, content in storages.values())
    return MAGIC + VERSION + SYSTEM + pickled + pickle.dumps(list(storages), 2) + numbers


LAYOUTS: dict[str, Callable[[bytes], bytes]] = {"zip": zipped, "legacy": in_a_row}


def saved(content: Any, kind: str = "zip", protocol: int = 2) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=kind == "zip", pickle_protocol=protocol)
    return file.getvalue()


# --- Code: every form, every place, both layouts ------------------


class Newly:
    """Runs when it is made."""

    def __new__(cls, command: str = "true") -> Newly:
        os.system(command)
        return super().__new__(cls)


class Rebuilt:
    """Runs when its attributes are set."""

    def __setstate__(self, command: str) -> None:
        os.system(command)


HERE = __name__.encode()
SYSTEM_CALL = f"{os.name}.system"


def forms(command: str) -> dict[str, tuple[bytes, str]]:
    """Instructions that leave one object, having run a command on the way; and the name they give it."""
    word, name = text(command), os.name.encode()
    short = {key: b"\x8c" + bytes([len(key)]) + key.encode() for key in (os.name, "system", "os", "builtins")}
    short["eval"], code = b"\x8c\x04eval", text(f"__import__('os').system({command!r})")
    return {
        "GLOBAL, REDUCE": (b"c" + name + b"\nsystem\n(" + word + b"tR", SYSTEM_CALL),
        "GLOBAL of os": (b"cos\nsystem\n" + word + b"\x85R", "os.system"),
        "STACK_GLOBAL": (short[os.name] + short["system"] + b"\x93" + word + b"\x85R", SYSTEM_CALL),
        "STACK_GLOBAL from the memo": (
            short["system"] + b"\x940" + short["os"] + b"h\x00\x93" + word + b"\x85R",
            "os.system",
        ),
        "a dotted name": (b"\x8c\x08argparse\x8c\x0a_os.system\x93" + word + b"\x85R", "argparse._os.system"),
        "builtins": (short["builtins"] + short["eval"] + b"\x93" + code + b"\x85R", "eval"),
        "Python 2's builtins": (b"c__builtin__\neval\n" + code + b"\x85R", "eval"),
        "getattr": (
            b"cbuiltins\ngetattr\n(cargparse\n_os\nX\x06\x00\x00\x00systemtR" + word + b"\x85R",
            "getattr",
        ),
        "INST": (b"(" + word + b"ios\nsystem\n", "os.system"),
        "OBJ": (b"(cos\nsystem\n" + word + b"o", "os.system"),
        "NEWOBJ": (b"c" + HERE + b"\nNewly\n" + word + b"\x85\x81", f"{__name__}.Newly"),
        "NEWOBJ_EX": (b"c" + HERE + b"\nNewly\n" + word + b"\x85}\x92", f"{__name__}.Newly"),
        "BUILD": (b"c" + HERE + b"\nRebuilt\n)\x81" + word + b"b", f"{__name__}.Rebuilt"),
        "Popen": (b"csubprocess\nPopen\n(]" + text("true") + b"atR", "subprocess.Popen"),
        "dropped": (b"cos\nsystem\n" + word + b"\x85R0N", "os.system"),
    }


FORMS = tuple(forms("true"))


def in_a_dict(value: bytes) -> bytes:
    return b"}" + text("a") + value + b"s."


PLACES: dict[str, Callable[[bytes], bytes]] = {
    "alone": lambda code: code + b".",
    "as a value": in_a_dict,
    "as a key": lambda code: b"}" + code + b"K\x01s.",
    "in a list of lists": lambda code: in_a_dict(b"]](K\x01" + code + b"ea"),
    "in a wrapper": lambda code: b"}" + text("model") + in_a_dict(code)[:-1] + b"s.",
    "in an ordered dictionary's attributes": lambda code: in_a_dict(
        b"ccollections\nOrderedDict\n)R}" + text("x") + code + b"sb"
    ),
    "in a Namespace": lambda code: in_a_dict(b"cargparse\nNamespace\n)\x81}" + text("lr") + code + b"sb"),
    "in a Namespace of a Namespace": lambda code: in_a_dict(
        b"cargparse\nNamespace\n)\x81}"
        + text("n")
        + b"cargparse\nNamespace\n)\x81}"
        + text("x")
        + code
        + b"sbsb"
    ),
    "as an argument": lambda code: in_a_dict(b"ctorch\nSize\n(" + code + b"ttR"),
    "in a storage's name": lambda code: in_a_dict(
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + code + text("cpu") + b"K\x01tQ"
    ),
    "thrown away": lambda code: b"}" + code + b"0.",
    "in the memo only": lambda code: code + b"q\x000}.",
    "in a numpy array of objects": lambda code: in_a_dict(
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01K\x01\x85"
        b"cnumpy\ndtype\n" + text("O8") + b"\x89\x88\x87R\x89]" + code + b"atb"
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", PLACES)
def test_code_is_refused_by_name_and_not_run(tmp_path: Path, place: str, layout: str) -> None:
    mark = tmp_path / "mark"
    for form, (code, name) in forms(f"touch {mark}").items():
        said = refused_bytes(tmp_path, LAYOUTS[layout](PLACES[place](code)))
        assert said == (
            f"{HOLDS_CODE}  {tmp_path / 'weights.pth'} asks to run {name}; nothing was run\n"
            "  hint: do not trust this file; get it from its authors again, best as .safetensors"
        ), form
    assert not mark.exists()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_does_run_elsewhere(tmp_path: Path, form: str) -> None:
    """Read by pickle itself the same instructions do run: else the test above would prove nothing."""
    mark = tmp_path / "mark"
    code = forms(f"touch {mark}")[form][0]
    if form == "Popen":
        code = code.replace(text("true") + b"a", text("touch") + b"a" + text(str(mark)) + b"a")
    made = pickle.loads(b"\x80" + (b"\x02" if form == "Python 2's builtins" else b"\x04") + code + b".")
    if form == "Popen":
        made.wait()
    assert mark.exists()


@pytest.mark.parametrize("part", range(5))
def test_code_in_any_of_the_pickles_of_the_older_layout(tmp_path: Path, part: int) -> None:
    mark = tmp_path / "mark"
    parts = [MAGIC, VERSION, SYSTEM, b"}.", b"]."]
    parts[part] = b"\x80\x02" + forms(f"touch {mark}")["GLOBAL, REDUCE"][0] + b"."
    said = refused_bytes(tmp_path, b"".join(parts))
    assert f"asks to run {SYSTEM_CALL}; nothing was run" in said
    assert not mark.exists()


HIDDEN = {
    "an extension's number": b"\x82\x01",
    "a larger extension's number": b"\x83\x01\x00",
    "the largest extension's number": b"\x84\x01\x00\x00\x00",
    "a call of a text": text("os.system") + b")R",
    "a call of a tensor's storage": (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ)R"
    ),
    "a call with a list": b"ctorch\nSize\n]R",
    "a name that is a number": b"K\x01K\x02\x93",
    "control characters": b"cos\n\x1b[2Jsystem\n)R",
    "a name of a megabyte": b"cos\n" + b"s" * 1_000_000 + b"\n)R",
    "letters of other scripts": b"\x8c\x02os" + b"\x8c\x07" + "s\u202eystem".encode()[:7] + b"\x93)R",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", HIDDEN)
def test_code_without_a_plain_name(tmp_path: Path, case: str, layout: str) -> None:
    said = refused_bytes(tmp_path, LAYOUTS[layout](in_a_dict(HIDDEN[case])))
    assert f"{tmp_path / 'weights.pth'} asks to run something without a plain name; nothing was run" in said


class Command:
    """Pickled by Python itself, in whatever way its protocol has."""

    def __init__(self, what: Any, *args: Any) -> None:
        self.what = what, args

    def __reduce__(self) -> Any:
        return self.what


class Subclass(OrderedDict[str, Any]):
    pass


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_code_in_every_protocol(tmp_path: Path, layout: str, protocol: int) -> None:
    mark = tmp_path / "mark"
    commands = {
        f"{os.name}.system": Command(os.system, f"touch {mark}"),
        "eval": Command(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Command(exec, f"open({str(mark)!r}, 'w')"),
        "subprocess.Popen": Command(subprocess.Popen, ["touch", str(mark)]),
        "__import__": Command(builtins.__import__, "antigravity"),
        "getattr": Command(getattr, Path(mark), "touch"),
        f"{__name__}.Subclass": Subclass(a=torch.zeros(1)),
    }
    for name, command in commands.items():
        for content in ({"model": {"a": 1}, "x": command}, argparse.Namespace(deep=[{"x": (1, command)}])):
            said = refused_bytes(tmp_path, LAYOUTS[layout](pickle.dumps(content, protocol)))
            if protocol < 3:  # written for Python 2
                name = name.replace("subprocess", "commands")
            assert f"asks to run {name}; nothing was run" in said
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_whole_network_is_code(tmp_path: Path, protocol: int) -> None:
    said = refused_bytes(tmp_path, saved(torch.nn.Linear(2, 2), protocol=protocol))
    assert said.startswith(HOLDS_CODE)
    assert "asks to run torch.nn.modules.linear.Linear; nothing was run" in said


def test_a_torchscript_archive_is_told_from_weights(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch no longer recommends TorchScript
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    assert refused(path) == (
        f"{HOLDS_CODE}  {path} is a TorchScript archive, a program with weights inside; nothing was run\n"
        "  hint: where you trust it: safetensors.torch.save_file(torch.jit.load(FILE).state_dict(), OUT)"
    )


# --- What a training run keeps beside its weights is only described --


def training_checkpoint() -> dict[str, Any]:
    """Like the published script's checkpoint-best.pth, with all that may stand in its arguments."""
    weights = OrderedDict(a=torch.randn(2, 3), b=torch.randn(3))
    inner = argparse.Namespace(path=pathlib.PurePosixPath("/data"), none=None, nested=[{"x": (1, 2.5)}])
    args = argparse.Namespace(
        lr=np.float64(1e-4),
        array=np.arange(3.0),
        objects=np.array([None, "x"], dtype=object),
        device=torch.device("cuda", 0),
        dtype=torch.bfloat16,
        output=Path("runs") / "best",
        started=datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        size=torch.Size([2, 3]),
        inner=inner,
        simple=types.SimpleNamespace(x=1),
        counts=Counter("aab"),
        queue=deque([1, 2], 5),
        lists=defaultdict(list, a=[1]),
        things={1, 2},
        frozen=frozenset("ab"),
        raw=b"bytes",
        buffer=bytearray(b"x"),
        complex=1 + 2j,
        large=1 << 70,
        slices=slice(1, 2),
        text="Ünïcode \u2028",
    )
    return {
        "model": weights,
        "optimizer": {
            "state": {0: {"exp_avg": torch.zeros(2, 3)}},
            "param_groups": [{"lr": np.float32(0.1)}],
        },
        "epoch": "best",
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "args": args,
        "model_ema": OrderedDict(a=torch.zeros(2, 3), b=torch.zeros(3)),
    }


def test_an_ordered_dictionary_made_of_pairs(tmp_path: Path) -> None:
    """As Python 2 wrote them."""
    pairs = b"](]" + text("a") + b"a" + TENSOR + b"ae"
    path = tmp_path / "weights.pth"
    path.write_bytes(zipped(b"\x80\x02ccollections\nOrderedDict\n" + pairs + b"\x85R.", {"0": bytes(8)}))
    assert read_state(path, Account())["a"].tolist() == [0, 0]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_fine_tuned_checkpoint_is_read(tmp_path: Path, kind: str, protocol: int) -> None:
    path, content, account = tmp_path / "checkpoint-best.pth", training_checkpoint(), Account()
    path.write_bytes(saved(content, kind, protocol))
    state = read_state(path, account)
    assert state.keys() == content["model"].keys()
    assert all(torch.equal(state[key], value) for key, value in content["model"].items())
    assert account.dropped == {"beside 'model'": ["optimizer", "epoch", "scaler", "args", "model_ema"]}
    assert account.notes == ["unwrapped from 'model'"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_fine_tuned_checkpoint_with_code_in_its_arguments_is_refused(
    tmp_path: Path, kind: str, protocol: int
) -> None:
    content = training_checkpoint()
    content["args"].inner.nested[0]["x"] = Command(os.system, f"touch {tmp_path / 'mark'}")
    said = refused_bytes(tmp_path, saved(content, kind, protocol))
    assert f"asks to run {SYSTEM_CALL}; nothing was run" in said
    assert not (tmp_path / "mark").exists()


def test_a_zip_of_protocol_1_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(saved({"model": {"a": torch.arange(3.0)}, "epoch": 3, "lr": 0.5}, "zip", 1))
    assert torch.equal(read_state(path, Account())["a"], torch.arange(3.0))


# --- Bombs: nothing large is held, nothing takes long ------------

TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n(("
    + text("storage")
    + b"ctorch\nFloatStorage\n"
    + text("0")
    + text("cpu")
    + b"K\x02tQK\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
)
TEN_BILLION = b"\x8a\x05" + (10**10).to_bytes(5, "little")
WEIGHTS = text("model") + b"}" + text("a") + TENSOR + b"ss"


def doubled() -> bytes:
    """A tuple of a tuple of …, each twice: 2^200 of them, if they were written out."""
    return b")" + b"".join(b"2\x86" for _ in range(200))


BOMBS: dict[str, bytes] = {
    "ten GB of bytes": b"cbuiltins\nbytearray\n" + TEN_BILLION + b"\x85R",
    "a list of a long range": b"cbuiltins\nlist\ncbuiltins\nrange\n" + TEN_BILLION + b"\x85R\x85R",
    "a tuple of a long range": b"cbuiltins\ntuple\ncbuiltins\nrange\n" + TEN_BILLION + b"\x85R\x85R",
    "an array of ten billion": b"cnumpy\nndarray\n(" + TEN_BILLION + b"\x85tR",
    "a large untyped storage": b"ctorch.storage\nUntypedStorage\n" + TEN_BILLION + b"\x85R",
    "lists nested 300,000 times": b"]" * 300_000 + b"a" * 299_999,
    "a tuple that doubles": doubled(),
    "numbers that collide": b"}"
    + b"".join(b"\x8a\x0b" + (i * ((1 << 61) - 1)).to_bytes(11, "little") + b"Ns" for i in range(100_000)),
}
# A key that is nested so deep that asking for its hash would overflow the stack.
DEEP_KEY = b"}" + WEIGHTS + b")" + b"\x85" * 300_000 + b"Ns."
TOO_LONG: dict[str, bytes] = {
    "a million instructions": b"}" + b"N0" * 500_000 + b".",
    "texts of 65 MiB": b"}" + (b"X" + struct.pack("<I", MIB) + bytes(MIB) + b"0") * 66 + b".",
}
CLAIMED: dict[str, bytes] = {
    "a text of 4 GB": b"X\xff\xff\xff\xffabc",
    "a text of 2^63": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc",
    "bytes of 2^63": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc",
    "a byte array of 2^63": b"\x96\xff\xff\xff\xff\xff\xff\xff\x7fabc",
    "a frame of 2^63": b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
    "a number of 2 GB": b"\x8b\xff\xff\xff\x7fabc",
    "a number of a negative length": b"\x8b\xff\xff\xff\xffabc",
    "a number of 100,000 figures": b"I" + b"9" * 100_000 + b"\n",
    "a place in the memo beyond reach": b"Np" + b"9" * 30 + b"\n",
}


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """Every bomb in both layouts, read in a process that may hold 700 MiB more."""
    folder = tmp_path_factory.mktemp("bombs")
    contents = {case: b"}" + WEIGHTS + text("x") + bomb + b"s." for case, bomb in BOMBS.items()}
    contents |= {"a deep key": DEEP_KEY} | TOO_LONG
    contents |= {case: b"}" + text("x") + claim + b"s." for case, claim in CLAIMED.items()}
    names, jobs = [], []
    for case, content in contents.items():
        content = b"\x80\x04" + content
        numbers = bytes(8)
        for layout, file in (
            ("zip", zipped(content, {"0": numbers})),
            ("legacy", in_a_row(content, {"0": (2, numbers)})),
        ):
            path = folder / f"{len(jobs)}"
            path.write_bytes(file)
            names.append((case, layout))
            jobs.append(("read", path))
    jobs += [("read", path) for path in large_files(folder)]
    names += [(path.name, "large") for path in large_files(folder)]
    found = weigh(jobs, limit=700 * MIB)
    return dict(zip(names, found, strict=True))


def large_files(folder: Path) -> list[Path]:
    """Files that look large: mostly holes, which take no room on the disk."""
    files = {
        "zeros.pth": (b"", b""),
        "zeros.safetensors": (b"", b""),
        "zeros": (b"", b""),
        "pickle.pth": (b"\x80\x02", b""),
        "text.pth": (b"\x80\x02X\x00\x00\x00\x60", b""),  # a text of 1.5 GB, which is there
        "zip.pth": (b"PK\x03\x04", b""),
        "header.safetensors": (struct.pack("<Q", (2 << 30) - 8) + b'{"a":', b""),
        "list.pth": (b"PK\x03\x04", struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 2**31 - 99, 9, 0)),
    }
    found = []
    for name, (start, end) in files.items():
        path = folder / name
        if not path.exists():
            with path.open("wb") as file:
                file.write(start)
                file.truncate((2 << 30) - len(end))
                file.seek(0, os.SEEK_END)
                file.write(end)
        found.append(path)
    return found


@linux
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [*BOMBS, "a deep key"])
def test_bombs_beside_the_weights_do_not_go_off(bombs: Any, case: str, layout: str) -> None:
    seen = bombs[case, layout]
    assert seen["said"] == "dict kept"  # the weights were read: what stands beside them is not made
    assert seen["grown"] < 200 * MIB


@linux
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", TOO_LONG)
def test_lists_of_weights_have_a_longest(bombs: Any, case: str, layout: str) -> None:
    seen = bombs[case, layout]
    assert seen["said"].startswith(NOT_WHOLE)
    assert "its list of weights is longer than one can be" in seen["said"]
    assert seen["grown"] < 300 * MIB


@linux
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CLAIMED)
def test_lengths_that_are_claimed_are_not_believed(bombs: Any, case: str, layout: str) -> None:
    seen = bombs[case, layout]
    assert seen["said"].startswith(NOT_WHOLE)
    assert seen["grown"] < 32 * MIB


@linux
def test_files_of_2_gb_that_hold_nothing(bombs: Any) -> None:
    seen = {case: one for (case, layout), one in bombs.items() if layout == "large"}
    assert len(seen) == 8
    assert all(one["grown"] < (200 if case == "text.pth" else 32) * MIB for case, one in seen.items()), seen
    for case in ("zeros", "zeros.pth", "zeros.safetensors"):
        assert "is neither a PyTorch nor a safetensors file" in seen[case]["said"]
    assert "its list of weights cannot be read" in seen["pickle.pth"]["said"]
    assert "its list of weights is longer than one can be" in seen["text.pth"]["said"]
    assert "the archive's own list, at its end, is missing" in seen["zip.pth"]["said"]
    assert "a header of 2,147,483,640 bytes is longer than a list" in seen["header.safetensors"]["said"]
    assert "an archive of 9 parts is no list of weights" in seen["list.pth"]["said"]


# --- Tensors that claim what is not there ------------------------


class Run(tuple[Any, ...]):
    """A storage as a file names it."""


class Called:
    def __init__(self, what: Any, *args: Any) -> None:
        self.what = what, args

    def __reduce__(self) -> Any:
        return self.what


class Writer(pickle.Pickler):
    legacy = False

    def persistent_id(self, thing: Any) -> Any:
        return (*thing, None)[: max(len(thing), 6 if self.legacy else 5)] if type(thing) is Run else None


def run(numel: Any, key: Any = "0", kind: Any = torch.FloatStorage) -> Run:
    return Run(("storage", kind, key, "cpu", numel))


def tensor(storage: Any, offset: Any, shape: Any, stride: Any, *more: Any) -> Called:
    more = more or (False, OrderedDict())
    return Called(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, *more)


def write(path: Path, content: Any, layout: str = "zip", stored: int = 16, protocol: int = 2) -> Path:
    """Write a description of ours around one storage of four float32 (16 bytes)."""
    file = io.BytesIO()
    writer = Writer(file, protocol)
    writer.legacy = layout == "legacy"
    writer.dump(content)
    numbers = np.arange(1, 5, dtype=np.float32).tobytes()[:stored]
    if layout == "zip":
        path.write_bytes(zipped(file.getvalue(), {"0": numbers}))
    else:
        path.write_bytes(in_a_row(file.getvalue(), {"0": (stored // 4, numbers)}))
    return path


TOO_MUCH = "a tensor claims more numbers than are stored for it"
NO_SHAPE = "a tensor's shape cannot be"
OTHER_SIZE = "a tensor claims another number of bytes than are stored for it"
CLAIMS: dict[str, tuple[Any, str]] = {
    "one more": (tensor(run(4), 0, (5,), (1,)), TOO_MUCH),
    "an offset": (tensor(run(4), 1, (4,), (1,)), TOO_MUCH),
    "a far offset": (tensor(run(4), 1 << 40, (1,), (1,)), TOO_MUCH),
    "a stride": (tensor(run(4), 0, (2, 2), (3, 1)), TOO_MUCH),
    "a far stride": (tensor(run(4), 0, (2,), (1 << 40,)), TOO_MUCH),
    "4 bytes expanded to terabytes": (tensor(run(4), 0, (1 << 40,), (0,)), TOO_MUCH),
    "4 bytes expanded to more": (tensor(run(4), 0, (1 << 30, 1 << 30), (0, 0)), NO_SHAPE),
    "overlapping windows": (tensor(run(4), 0, (3, 2), (1, 1)), TOO_MUCH),
    "a negative offset": (tensor(run(4), -1, (1,), (1,)), NO_SHAPE),
    "a negative stride": (tensor(run(4), 3, (2,), (-1,)), NO_SHAPE),
    "a negative side": (tensor(run(4), 0, (-1,), (1,)), NO_SHAPE),
    "two negative sides": (tensor(run(4), 0, (-2, -2), (2, 1)), NO_SHAPE),
    "numbers beyond 64 bits": (tensor(run(4), 0, (1 << 70,), (1,)), NO_SHAPE),
    "a stride beyond 64 bits": (tensor(run(4), 0, (1,), (1 << 70,)), NO_SHAPE),
    "an offset beyond 64 bits": (tensor(run(4), 1 << 70, (1,), (1,)), NO_SHAPE),
    "empty, with other sides beyond reach": (tensor(run(4), 0, (0, 1 << 40, 1 << 40), (1, 1, 1)), NO_SHAPE),
    "more strides than sides": (tensor(run(4), 0, (4,), (1, 1)), NO_SHAPE),
    "fewer strides than sides": (tensor(run(4), 0, (2, 2), (1,)), NO_SHAPE),
    "a hundred sides": (tensor(run(4), 0, (1,) * 100, (1,) * 100), NO_SHAPE),
    "a longer storage": (tensor(run(1 << 40), 0, (4,), (1,)), OTHER_SIZE),
    "a shorter storage": (tensor(run(3), 0, (3,), (1,)), OTHER_SIZE),
    "wider numbers": (tensor(run(4, kind=torch.DoubleStorage), 0, (4,), (1,)), OTHER_SIZE),
    "a storage that is not there": (tensor(run(4, "1"), 0, (4,), (1,)), "a tensor's numbers are missing"),
    "a storage outside the folder": (
        tensor(run(4, "../data.pkl"), 0, (4,), (1,)),
        "a tensor's numbers are missing",
    ),
    "a storage of a negative length": (
        tensor(run(-4), 0, (4,), (1,)),
        "its list of weights cannot be read",
    ),
    "a storage of no length": (tensor(run(None), 0, (4,), (1,)), "its list of weights cannot be read"),
    "a storage with a number for a name": (
        tensor(run(4, 0), 0, (4,), (1,)),
        "its list of weights cannot be read",
    ),
    "a storage of a tensor's type": (
        tensor(run(4, kind=torch.Tensor), 0, (4,), (1,)),
        "its list of weights cannot be read",
    ),
    "part of a storage beyond its end": (
        tensor(Run((*run(4), ("v", 2, 4))), 0, (2,), (1,)),
        TOO_MUCH,
    ),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_tensors_that_claim_what_is_not_stored(tmp_path: Path, case: str) -> None:
    claim, why = CLAIMS[case]
    path = write(tmp_path / "weights.pth", {"ok": tensor(run(4), 0, (4,), (1,)), "a": claim})
    assert why in refused(path)
    if "storage" not in case and case != "wider numbers":
        write(path, {"ok": tensor(run(4), 0, (4,), (1,)), "a": claim}, "legacy")
        assert why in refused(path)


FLAGS = {"neg": True}
NO_TENSORS: dict[str, Any] = {
    "negated": tensor(run(4), 0, (4,), (1,), False, OrderedDict(), FLAGS),
    "conjugated": tensor(run(4), 0, (4,), (1,), False, OrderedDict(), {"conj": True}),
    "a shape of texts": tensor(run(4), 0, ("4",), (1,)),
    "a shape of truths": tensor(run(4), 0, (True,), (1,)),
    "a shape of fractions": tensor(run(4), 0, (4.0,), (1,)),
    "a shape that is none": tensor(run(4), 0, None, (1,)),
    "an offset that is none": tensor(run(4), None, (4,), (1,)),
    "a tensor for a storage": tensor(tensor(run(4), 0, (4,), (1,)), 0, (4,), (1,)),
    "too few arguments": Called(torch._utils._rebuild_tensor_v2, run(4), 0, (4,)),
    "no arguments": Called(torch._utils._rebuild_tensor_v2),
    "a parameter of nothing": Called(torch._utils._rebuild_parameter),
    "a parameter of itself, many times": Called(
        torch._utils._rebuild_parameter,
        Called(
            torch._utils._rebuild_parameter,
            Called(
                torch._utils._rebuild_parameter,
                Called(torch._utils._rebuild_parameter, tensor(run(4), 0, (4,), (1,))),
            ),
        ),
    ),
    "attributes of another class": Called(
        torch._tensor._rebuild_from_type_v2,
        torch._utils._rebuild_tensor_v2,
        torch.Size,
        (run(4), 0, (4,), (1,)),
        {},
    ),
    "attributes of a call without arguments": Called(
        torch._tensor._rebuild_from_type_v2, torch._utils._rebuild_parameter, torch.Tensor, 3, {}
    ),
    "another type of numbers": Called(
        torch._utils._rebuild_tensor_v3, run(4), 0, (4,), (1,), False, OrderedDict(), "float32"
    ),
    "quantised": Called(
        torch._utils._rebuild_qtensor,
        run(16, kind=torch.QInt8Storage),
        0,
        (4,),
        (1,),
        (torch.per_tensor_affine, 0.1, 0),
        False,
        OrderedDict(),
    ),
    "quantised numbers in a plain tensor": tensor(run(16, kind=torch.QInt8Storage), 0, (4,), (1,)),
    "sparse": torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (2,), check_invariants=True),
    "without numbers": torch.empty(3, device="meta"),
    "a storage alone": run(4),
    "a shape": torch.Size([4]),
    "a type": torch.float32,
    "a number": 3,
    "a numpy array": np.ones(3, dtype=np.float32),
    "a list of tensors": [tensor(run(4), 0, (4,), (1,))],
    "none": None,
}


@pytest.mark.parametrize("case", NO_TENSORS)
def test_what_is_no_plain_tensor(tmp_path: Path, case: str) -> None:
    thing, path = NO_TENSORS[case], tmp_path / "weights.pth"
    if isinstance(thing, torch.Tensor):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save({"b": torch.ones(1), "a": thing}, path)
    else:
        write(path, {"b": tensor(run(4), 0, (4,), (1,)), "a": thing})
    assert refused(path) == (
        f"a weights file must hold named tensors only.\n  {path} holds a\n"
        "  hint: give the file of the encoder's weights"
    )


PLAIN_TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "a number alone": lambda: torch.tensor(3.5),
    "none at all": lambda: torch.zeros(0),
    "none at all in a shape": lambda: torch.zeros(3, 0, 2),
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).T,
    "every other": lambda: torch.arange(9.0)[1::2],
    "a corner": lambda: torch.arange(30.0).reshape(5, 6)[1:3, 2:5],
    "one side of one": lambda: torch.arange(6.0).expand(1, 6),
    "a parameter": lambda: torch.nn.Parameter(torch.arange(4.0)),
    "a buffer": lambda: torch.nn.Buffer(torch.arange(4.0)),
    "larger than a chunk": lambda: torch.arange(1_200_000.0),
    **{
        str(dtype): lambda dtype=dtype: torch.arange(6).to(dtype)  # type: ignore[misc]
        for dtype in (
            *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
            *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint64),
            *(torch.bool, torch.float8_e4m3fn, torch.float8_e5m2),
        )
    },
}


def with_attributes() -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(torch.arange(4.0))
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_tensors_of_every_kind_are_read_as_pytorch_reads_them(tmp_path: Path, kind: str) -> None:
    # The older layout came too early for some types.
    late = (
        "torch.uint16",
        "torch.uint64",
        "torch.float8_e4m3fn",
        "torch.float8_e5m2",
    )
    state: dict[str, Any] = {
        name: make() for name, make in PLAIN_TENSORS.items() if kind == "zip" or name not in late
    }
    state |= {"with attributes": with_attributes(), "shared": state["a corner"].T}
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(state, kind))
    reference = torch.load(path, weights_only=True)
    read = read_state(path, Account())
    assert read.keys() == reference.keys()
    for name, value in reference.items():
        assert read[name].dtype == value.dtype, name
        assert read[name].shape == value.shape, name
        assert read[name].device.type == "cpu"
        assert read[name].tolist() == value.tolist(), name
    assert read["shared"].untyped_storage().data_ptr() == read["a corner"].untyped_storage().data_ptr()


def test_a_part_of_a_storage_as_the_first_versions_wrote_it(tmp_path: Path) -> None:
    part = tensor(Run((*run(4), ("v", 1, 3))), 1, (2,), (1,))
    path = write(tmp_path / "weights.pth", {"a": part}, "legacy")
    assert read_state(path, Account())["a"].tolist() == [3, 4]
    assert torch.load(path, weights_only=True)["a"].tolist() == [3, 4]


def test_storages_in_a_row_must_have_the_length_that_was_described(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.pth", {"a": tensor(run(4), 0, (4,), (1,))}, "legacy")
    content = path.read_bytes()
    for length in (0, 3, 5, 1 << 60, -1):
        changed = content[:-24] + struct.pack("<q", length) + content[-16:]
        assert "it ends within a tensor" in refused_bytes(tmp_path, changed)
        assert "it ends within a tensor" in refused_bytes(tmp_path, changed + bytes(64))


def test_the_writer_of_these_tests_writes_what_pytorch_reads(tmp_path: Path) -> None:
    """Else the claims above might be refused for another reason."""
    content = {"a": tensor(run(4), 1, (3,), (1,)), "b": tensor(run(4), 0, (2, 2), (2, 1))}
    for layout in LAYOUTS:
        path = write(tmp_path / "weights.pth", content, layout)
        state, reference = read_state(path, Account()), torch.load(path, weights_only=True)
        assert state["a"].tolist() == reference["a"].tolist() == [2, 3, 4]
        assert state["b"].tolist() == reference["b"].tolist() == [[1, 2], [3, 4]]


# --- Archives ----------------------------------------------------


def archive(records: dict[str, bytes], **options: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on a name that stands twice
        with zipfile.ZipFile(file, "w", **options) as made:
            for name, content in records.items():
                made.writestr(name.rstrip("*"), content)
    return file.getvalue()


def pickled_state(**tensors: Any) -> bytes:
    file = io.BytesIO()
    Writer(file, 2).dump(tensors or {"a": tensor(run(4), 0, (4,), (1,))})
    return file.getvalue()


def overlapping() -> bytes:
    """A hundred records that are one and the same stretch of the file: 2 MB that look like 200."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        content = {f"a{i}": tensor(run(500_000, f"{i:02}"), 0, (500_000,), (1,)) for i in range(100)}
        made.writestr("archive/data.pkl", pickled_state(**content))
        made.writestr("archive/data/00", bytes(2_000_000))
        for i in range(1, 100):
            made.writestr(f"archive/data/{i:02}", b"")
            info, first = made.infolist()[-1], made.infolist()[1]
            info.header_offset, info.file_size, info.compress_size = first.header_offset, 2_000_000, 2_000_000
            info.CRC = first.CRC
    return file.getvalue()


def patched(content: bytes, name: str, place: int, form: str, value: int) -> bytes:
    """Change one field of a record's entry in an archive's own list."""
    start = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    changed = bytearray(content)
    struct.pack_into(form, changed, start + place, value)
    return bytes(changed)


def longer_own_header() -> bytes:
    """A record whose own header says that its content begins in the next record."""
    content = bytearray(zipped(pickled_state(), {"0": bytes(16)}))
    start = content.index(b"archive/data/0") - 30
    struct.pack_into("<H", content, start + 28, 60)
    return bytes(content)


NUMBERS = np.arange(4, dtype=np.float32).tobytes()
GOOD = {"archive/data.pkl": pickled_state(), "archive/data/0": NUMBERS}
OVERLAP = "its parts overlap"
NOT_BY_TORCH = "is a zip archive that torch.save has not written"
COMPRESSED = "has compressed or encrypted parts, which torch.save never writes"
CUT_LIST = "the archive's own list is cut short"
NO_LIST = "the archive's own list, at its end, is missing"
ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "compressed": (lambda: archive(GOOD, compression=zipfile.ZIP_DEFLATED), COMPRESSED),
    "compressed in another way": (lambda: archive(GOOD, compression=zipfile.ZIP_LZMA), COMPRESSED),
    "a bomb of zeros": (
        lambda: archive(
            {"archive/data.pkl": GOOD["archive/data.pkl"], "archive/data/0": bytes(50 * MIB)},
            compression=zipfile.ZIP_DEFLATED,
        ),
        COMPRESSED,
    ),
    "encrypted": (lambda: patched(archive(GOOD), "archive/data/0", 8, "<H", 1), COMPRESSED),
    "another length unpacked": (
        lambda: patched(archive(GOOD), "archive/data/0", 24, "<L", 1 << 31),
        COMPRESSED,
    ),
    "records that overlap": (overlapping, OVERLAP),
    "a record longer than the file": (
        lambda: patched(
            patched(archive(GOOD), "archive/data/0", 20, "<L", 1 << 31), "archive/data/0", 24, "<L", 1 << 31
        ),
        OVERLAP,
    ),
    "a record that begins beyond the file": (
        lambda: patched(archive(GOOD), "archive/data/0", 42, "<L", 1 << 31),
        OVERLAP,
    ),
    "a record that begins elsewhere": (
        lambda: patched(archive(GOOD), "archive/data.pkl", 42, "<L", 5),
        OVERLAP,
    ),
    "a record's own header that is longer": (longer_own_header, OVERLAP),
    "a record without a header of its own": (
        lambda: (
            zipped(pickled_state(), {"0": NUMBERS})
            .replace(b"PK\x03\x04", b"PK\x03\x05")
            .replace(b"PK\x03\x05", b"PK\x03\x04", 2)
        ),
        OVERLAP,
    ),
    "a record twice": (lambda: archive({**GOOD, "archive/data/0*": NUMBERS}), OVERLAP),
    "too many records": (
        lambda: archive({**GOOD, **{f"archive/{i}": b"" for i in range(100_001)}}),
        "an archive of 100,003 parts is no list of weights",
    ),
    "a list of weights of its own twice": (
        lambda: archive({**GOOD, "other/data.pkl": pickled_state()}),
        NOT_BY_TORCH,
    ),
    "no list of weights": (lambda: archive({"archive/data/0": NUMBERS}), NOT_BY_TORCH),
    "a list at another depth": (lambda: archive({"a/b/data.pkl": pickled_state()}), NOT_BY_TORCH),
    "an archive in an archive": (lambda: archive({"weights.pth": archive(GOOD)}), NOT_BY_TORCH),
    "nothing in it": (lambda: archive({}), NOT_BY_TORCH),
    "numbers of the other order": (
        lambda: archive({**GOOD, "archive/byteorder": b"big"}),
        "it was written on a machine with another order of bytes",
    ),
    "a program": (lambda: archive({**GOOD, "archive/code/x.py": b""}), "is a TorchScript archive"),
    "constants of a program": (
        lambda: archive({**GOOD, "archive/constants.pkl": b"."}),
        "is a TorchScript archive",
    ),
    "no end": (lambda: archive(GOOD)[:-22], NO_LIST),
    "an end without its list": (lambda: b"PK\x03\x04" + archive(GOOD)[-22:], CUT_LIST),
    "an empty entry": (
        lambda: archive(GOOD).replace(b"PK\x01\x02", b"PK\x01\x03"),
        CUT_LIST,
    ),
    "more entries than its list has": (
        lambda: archive(GOOD)[:-12] + struct.pack("<H", 3) + archive(GOOD)[-10:],
        CUT_LIST,
    ),
    "a wide end that is missing": (
        lambda: archive(GOOD)[:-12] + struct.pack("<H", 0xFFFF) + archive(GOOD)[-10:],
        NO_LIST,
    ),
    "a wide length that is missing": (
        lambda: patched(archive(GOOD), "archive/data/0", 20, "<L", 0xFFFFFFFF),
        CUT_LIST,
    ),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_that_are_not_what_they_seem(tmp_path: Path, case: str) -> None:
    make, why = ARCHIVES[case]
    assert why in refused_bytes(tmp_path, make())


def test_an_archive_whose_list_is_wide_is_read(tmp_path: Path) -> None:
    """torch.save always writes the form for files beyond 4 GB; zipfile here does not."""
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(4.0)}, path)
    assert b"PK\x06\x06" in path.read_bytes() or path.read_bytes().count(b"PK\x05\x06") == 1
    assert read_state(path, Account())["a"].tolist() == [0, 1, 2, 3]
    path.write_bytes(archive(GOOD))
    assert read_state(path, Account())["a"].tolist() == [0, 1, 2, 3]


def widened(content: bytes) -> bytes:
    """The same archive with its lengths and places written in 64 bits."""
    end = content.rindex(b"PK\x05\x06")
    count, _, start = struct.unpack_from("<HLL", content, end + 10)
    entries, place = b"", start
    for _ in range(count):
        fields = bytearray(content[place : place + 46])
        name, extra, note = struct.unpack_from("<3H", fields, 28)
        packed, unpacked, where = (
            *struct.unpack_from("<2L", fields, 20),
            struct.unpack_from("<L", fields, 42)[0],
        )
        wide = struct.pack("<HHQQQ", 1, 24, unpacked, packed, where)
        struct.pack_into("<2L", fields, 20, 0xFFFFFFFF, 0xFFFFFFFF)
        struct.pack_into("<H", fields, 30, len(wide))
        struct.pack_into("<L", fields, 42, 0xFFFFFFFF)
        entries += bytes(fields) + content[place + 46 : place + 46 + name] + wide
        place += 46 + name + extra + note
    tail = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(entries), start)
    tail += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(entries), 1)
    tail += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:start] + entries + tail


def test_an_archive_of_64_bits(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(widened(archive(GOOD)))
    with zipfile.ZipFile(path) as reference:
        assert reference.testzip() is None
    assert read_state(path, Account())["a"].tolist() == [0, 1, 2, 3]


def test_a_flipped_bit_in_an_archive_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    content = saved({"a": torch.arange(1, 400.0), "b": torch.ones(3)})
    rows = torch.arange(1, 400.0).numpy().tobytes()
    start, listed = content.index(rows), content.index(b"_rebuild_tensor_v2")
    for place in (*range(start, start + len(rows), 97), start + len(rows) - 1):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        assert "the checksum of a tensor differs" in refused(path, outlined=False)
        assert read_state(path, Account(), data=False)["a"].shape == (399,)  # its numbers are not read
    changed = bytearray(content)
    changed[listed] ^= 1
    path.write_bytes(changed)
    assert "the checksum of its list of weights differs" in refused(path)


def test_a_file_saved_without_checksums_is_read(tmp_path: Path) -> None:
    path, before = tmp_path / "weights.pth", torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        torch.save({"a": torch.arange(4.0)}, path)
    finally:
        torch.serialization.set_crc32_options(before)
    with zipfile.ZipFile(path) as reference:
        assert {info.CRC for info in reference.infolist()} == {0}
    assert read_state(path, Account())["a"].tolist() == [0, 1, 2, 3]


# --- safetensors -------------------------------------------------


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(start: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [(end - start) // 4] if shape is None else shape,
        "data_offsets": [start, end],
    }


UNREADABLE = "its header cannot be read"
GAPS = "its tensors overlap or leave gaps"
HEADERS: dict[str, tuple[bytes, str]] = {
    "2 GB of header": (
        safetensors({"a": entry(0, 4)}, b"1234", 2 << 30),
        "its header claims 2,147,483,648 bytes",
    ),
    "100 TB of header": (safetensors({}, b"", 10**14), "its header claims 100,000,000,000,000 bytes"),
    "100 MB of header": (
        safetensors(b'{"a":"' + b"x" * 100_000_000 + b'"}'),
        "a header of 100,000,008 bytes is longer than a list of weights can be",
    ),
    "a header one byte too long": (safetensors({}, b"", 3), "its header claims 3 bytes"),
    "no UTF-8": (safetensors(b'{"\xff\xfe": 1}'), UNREADABLE),
    "no JSON": (safetensors(b"{not json}"), UNREADABLE),
    "an open brace": (safetensors(b"{"), UNREADABLE),
    "a deep header": (safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), UNREADABLE),
    "two names alike": (
        safetensors(b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 4)).encode(),) * 2), b"1234"),
        UNREADABLE,
    ),
    "two shapes in one": (
        safetensors(b'{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}', b"1234"),
        UNREADABLE,
    ),
    "an entry that is a number": (safetensors({"a": 3}), UNREADABLE),
    "an entry without a type": (
        safetensors({"a": {"shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        UNREADABLE,
    ),
    "an entry with more": (safetensors({"a": entry(0, 4) | {"x": 1}}, b"1234"), UNREADABLE),
    "a shape of fractions": (safetensors({"a": entry(0, 4, [1.0])}, b"1234"), UNREADABLE),
    "a shape of truths": (safetensors({"a": entry(0, 4, [True])}, b"1234"), UNREADABLE),
    "a negative side": (safetensors({"a": entry(0, 4, [-1])}, b"1234"), UNREADABLE),
    "two negative sides": (safetensors({"a": entry(0, 16, [-2, -2])}, bytes(16)), UNREADABLE),
    "a side beyond 64 bits": (safetensors({"a": entry(0, 4, [1 << 70, 0])}, b"1234"), UNREADABLE),
    "a million sides": (safetensors({"a": entry(0, 4, [1] * 1_000_000)}, b"1234"), UNREADABLE),
    "empty, with other sides beyond reach": (
        safetensors({"a": entry(0, 0, [0, 1 << 40, 1 << 40])}),
        NO_SHAPE,
    ),
    "three offsets": (safetensors({"a": entry(0, 4) | {"data_offsets": [0, 4, 8]}}, b"1234"), "not known"),
    "offsets backwards": (safetensors({"a": entry(0, 4) | {"data_offsets": [4, 0]}}, b"1234"), OTHER_SIZE),
    "offsets that are negative": (
        safetensors({"a": entry(0, 4) | {"data_offsets": [-4, 0]}}, b"1234"),
        UNREADABLE,
    ),
    "fewer bytes than numbers": (safetensors({"a": entry(0, 4, [2])}, b"1234"), OTHER_SIZE),
    "more bytes than numbers": (safetensors({"a": entry(0, 8, [1])}, bytes(8)), OTHER_SIZE),
    "tensors that overlap": (safetensors({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), GAPS),
    "tensors that are the same": (safetensors({"a": entry(0, 8), "b": entry(0, 8)}, bytes(8)), GAPS),
    "a gap": (safetensors({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)), GAPS),
    "a gap at the start": (safetensors({"a": entry(4, 8)}, bytes(8)), GAPS),
    "bytes too few": (safetensors({"a": entry(0, 400)}, bytes(8)), "its tensors take"),
    "bytes left over": (safetensors({"a": entry(0, 4)}, bytes(8)), "its tensors take"),
    "a type that is not known": (
        safetensors({"a": entry(0, 4, [1], "F4")}, b"1234"),
        "it stores numbers of a kind that is not known ('F4')",
    ),
    "a type that is a list": (
        safetensors({"a": entry(0, 4, [1], [["F32"]])}, b"1234"),
        "it stores numbers of a kind that is not known",
    ),
    "a type that writes to the terminal": (
        safetensors({"a": entry(0, 4, [1], "\x1b[2J" * 1000)}, b"1234"),
        "it stores numbers of a kind that is not known",
    ),
    "words that are a list": (safetensors({"__metadata__": [], "a": entry(0, 4)}, b"1234"), UNREADABLE),
    "words that are a text": (safetensors({"__metadata__": "x", "a": entry(0, 4)}, b"1234"), UNREADABLE),
    "words that are none": (safetensors({"__metadata__": None, "a": entry(0, 4)}, b"1234"), UNREADABLE),
    "a word that is a number": (
        safetensors({"__metadata__": {"x": 1}, "a": entry(0, 4)}, b"1234"),
        UNREADABLE,
    ),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_contradict_themselves(tmp_path: Path, case: str) -> None:
    content, why = HEADERS[case]
    said = refused_bytes(tmp_path, content)
    assert said.startswith(NOT_WHOLE)
    assert why in said
    with pytest.raises(WeightsError) as caught:
        read_header(tmp_path / "weights.pth")
    assert str(caught.value) == said


def test_a_header_without_tensors_holds_none(tmp_path: Path) -> None:
    for header in ({}, {"__metadata__": {"x": "y"}}):
        said = refused_bytes(tmp_path, safetensors(header))
        assert said.startswith("a weights file must hold named tensors only.\n")
        assert "holds none" in said


def test_a_safetensors_file_of_every_type_is_read_as_its_own_reader_does(tmp_path: Path) -> None:
    kept = ("transposed", "every other", "a corner", "one side of one", "torch.complex128", "a parameter")
    state = {n: make().detach() for n, make in PLAIN_TENSORS.items() if n not in kept}
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    read, reference = read_state(path, Account()), load_file(path)
    assert read.keys() == reference.keys()
    for name, value in reference.items():
        assert read[name].dtype == value.dtype, name
        assert read[name].tolist() == value.tolist(), name


def test_the_words_of_a_header(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.ones(2)}, path)
    assert read_header(path) == {}
    words = {"card": json.dumps({"name": "Ünïcode"}), "who": "a test"}
    save_file({"a": torch.ones(2)}, path, metadata=words)
    assert read_header(path) == words


OTHERS = {
    "zip": saved({"a": torch.ones(2)}),
    "legacy": saved({"a": torch.ones(2)}, "legacy"),
    "code": b"\x80\x02cos\nsystem\n.",
    "a web page": b"<!DOCTYPE html><html>",
    "text": b"words",
}


@pytest.mark.parametrize("case", OTHERS)
def test_files_of_other_kinds_have_no_header(tmp_path: Path, case: str) -> None:
    path = tmp_path / "weights"
    path.write_bytes(OTHERS[case])
    assert read_header(path) == {}


# --- Cut short, and changed at random ----------------------------


def whole_files(tmp_path: Path) -> dict[str, bytes]:
    state = {"a": torch.arange(1.0, 5.0), "b": torch.full((2, 2), 7.0)}
    save_file(state, tmp_path / "x", metadata={"who": "a test"})
    return {
        "zip": saved(state),
        "legacy": saved(state, "legacy"),
        "safetensors": (tmp_path / "x").read_bytes(),
    }


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_cut_anywhere_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    content = whole_files(tmp_path)[kind]
    path = tmp_path / "weights.pth"
    for end in range(1, len(content)):
        path.write_bytes(content[:end])
        said = refused(path)
        assert f"{path} ({end:,} bytes) is damaged" in said or "is neither a PyTorch" in said, (end, said)
    path.write_bytes(content)
    assert read_state(path, Account()).keys() == {"a", "b"}


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_what_is_read_of_a_changed_file_is_what_its_own_reader_reads(tmp_path: Path, kind: str) -> None:
    content = whole_files(tmp_path)[kind]
    rng, path = np.random.default_rng(3), tmp_path / "weights.pth"
    accepted = refused_elsewhere = 0
    if kind == "zip":  # without checksums, which would refuse nearly all
        with zipfile.ZipFile(io.BytesIO(content)) as original:
            records = {info.filename: original.read(info) for info in original.infolist()}
        content = archive(records)
        for record in records.values():
            content = content.replace(struct.pack("<L", zlib.crc32(record)), bytes(4))
    for _ in range(600):
        changed = bytearray(content)
        for place in rng.integers(len(content), size=rng.integers(1, 3)):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            state = read_state(path, Account())
        except WeightsError as error:
            plain(str(error), path)
            continue
        accepted += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reference = load_file(path) if kind == "safetensors" else torch.load(path, weights_only=True)
        except Exception:
            refused_elsewhere += 1
            continue
        assert {k: (v.dtype, str(v.tolist())) for k, v in state.items()} == {
            k: (v.dtype, str(v.tolist())) for k, v in reference.items()
        }
    assert 20 < accepted < 600
    # PyTorch refuses some that are harmless: records it asks for that we do not need, as its version.
    assert refused_elsewhere <= (0 if kind == "safetensors" else accepted // 2)


def test_a_file_that_is_cut_while_it_is_read() -> None:
    spec = Spec(Stored(8, 16), torch.float32, 0, (4,), (1,))
    assert read_tensors(io.BytesIO(bytes(24)), {"a": spec})["a"].tolist() == [0, 0, 0, 0]
    with pytest.raises(NotWholeError, match="it ends within a tensor"):
        read_tensors(io.BytesIO(bytes(23)), {"a": spec})


# --- What is no file ---------------------------------------------


@posix
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe.pth", tmp_path / "loop.pth"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path in (tmp_path, pipe, Path("/dev/zero"), Path("/dev/null")):
        for read in (lambda p: read_state(p, Account()), read_header):
            with pytest.raises(WeightsError) as caught:
                read(path)
            assert str(caught.value) == (
                f"the weights file must be readable.\n  {path}: it is a folder or a device"
            )
    assert refused(loop) == f"the weights file must be readable.\n  {loop}: {os.strerror(errno.ELOOP)}"


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="this name cannot be that of a file"):
        read_state(Path("null\0.pth"), Account())
    long = tmp_path / ("x" * 5000)
    assert refused(long) == f"the weights file must be readable.\n  {long}: {os.strerror(errno.ENAMETOOLONG)}"


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(OTHERS["zip"])
    path.chmod(0)
    assert refused(path) == f"the weights file must be readable.\n  {path}: {os.strerror(errno.EACCES)}"


def test_a_missing_file_has_no_header_either(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="must exist"):
        read_header(tmp_path / "missing")
    (tmp_path / "empty").touch()
    with pytest.raises(WeightsError, match="is empty"):
        read_header(tmp_path / "empty")


# --- Names -------------------------------------------------------

NAMES = {
    "an escape": ("\x1b[2J\x1b]0;owned\x07weights", "\\x1b[2J\\x1b]0;owned\\x07weights"),
    "a new line": ("a\n  hint: run this", "a\\n  hint: run this"),
    "other directions": ("a\u202eb", "a\\u202eb"),
    "half a letter": ("a\ud800", "a\\ud800"),
    "zero": ("a\0b", "a\\x00b"),
    "a megabyte": ("a" * 1_000_000, "a" * 60 + "… (1,000,000 letters)"),
    "a megabyte of escapes": ("\x1b" * 1_000_000, "\\x1b" * 15 + "… (1,000,000 letters)"),
}


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_names_that_are_no_plain_text(tmp_path: Path, case: str, kind: str) -> None:
    name, shown = NAMES[case]
    if kind == "safetensors":
        header = {"ok": entry(0, 4), name: entry(4, 8)}
        path = tmp_path / "weights"
        path.write_bytes(safetensors(header, bytes(8)))
    else:
        path = write(
            tmp_path / "weights",
            {"ok": tensor(run(4), 0, (4,), (1,)), name: tensor(run(4), 0, (4,), (1,))},
            kind,
        )
    assert refused(path) == (
        f"the names in a weights file must be short and plain.\n  {path} names a tensor {shown}\n"
        "  hint: do not trust this file; get it from its authors again, best as .safetensors"
    )


@pytest.mark.parametrize("case", NAMES)
def test_names_of_what_is_no_tensor_are_escaped_too(tmp_path: Path, case: str) -> None:
    name, shown = NAMES[case]
    path = write(tmp_path / "weights", {"ok": tensor(run(4), 0, (4,), (1,)), name: 3})
    assert f"  {path} holds {shown}\n" in refused(path)
    account = Account()
    write(path, {"model": {"ok": tensor(run(4), 0, (4,), (1,))}, name: 3})
    read_state(path, account)
    assert account.dropped == {"beside 'model'": [shown]}


@pytest.mark.parametrize("key", [3, 1.5, b"a", None, (1, 2), True, 1 << 5000], ids=str)
def test_keys_that_are_no_names(tmp_path: Path, key: Any) -> None:
    path = write(
        tmp_path / "weights", {"ok": tensor(run(4), 0, (4,), (1,)), key: tensor(run(4), 0, (4,), (1,))}
    )
    assert f"  {path} holds a key that is no name\n" in refused(path)


def test_a_name_that_stands_twice(tmp_path: Path) -> None:
    twice = b"\x80\x02}" + text("a") + TENSOR + b"s" + text("a") + TENSOR + b"s."
    said = refused_bytes(tmp_path, zipped(twice, {"0": bytes(8)}))
    assert "it holds a twice" in said


# --- Numbers -----------------------------------------------------


def fit(state: State, wanted: State) -> State:
    return match(dict(state), wanted, Account(), path=Path("file"), name="a network", hint="a hint")


WANTED = {"a": torch.zeros(4), "n": torch.zeros((), dtype=torch.int64)}
GIVEN = {"a": torch.ones(4), "n": torch.tensor(3)}
TYPES = [
    ("a", torch.int64, "weights of a network must be floating-point numbers.\n  file: a is torch.int64"),
    ("a", torch.bool, "weights of a network must be floating-point numbers.\n  file: a is torch.bool"),
    ("a", torch.uint8, "weights of a network must be floating-point numbers.\n  file: a is torch.uint8"),
    (
        "a",
        torch.complex64,
        "weights of a network must be floating-point numbers.\n  file: a is torch.complex64",
    ),
    ("n", torch.float32, "weights of a network must be whole numbers.\n  file: n is torch.float32"),
    ("n", torch.complex64, "weights of a network must be whole numbers.\n  file: n is torch.complex64"),
    (
        "a",
        torch.float8_e4m3fn,
        "weights of a network must be stored with 16 bits or more.\n  file: a is torch.float8_e4m3fn",
    ),
    (
        "a",
        torch.float8_e5m2,
        "weights of a network must be stored with 16 bits or more.\n  file: a is torch.float8_e5m2",
    ),
]


@pytest.mark.parametrize(("name", "dtype", "why"), TYPES)
def test_numbers_of_the_wrong_kind(name: str, dtype: torch.dtype, why: str) -> None:
    with pytest.raises(WeightsError) as caught:
        fit(GIVEN | {name: GIVEN[name].to(dtype)}, WANTED)
    assert str(caught.value).startswith(why + "\n  hint: ")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_numbers_of_another_width(dtype: torch.dtype) -> None:
    state = fit(GIVEN | {"a": GIVEN["a"].to(dtype)}, WANTED)
    assert state["a"].dtype == torch.float32
    assert state["a"].tolist() == [1, 1, 1, 1]
    assert state["n"].item() == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_number_that_is_not_finite_is_named(dtype: torch.dtype, bad: float) -> None:
    values = GIVEN["a"].to(dtype)
    values[2] = bad
    with pytest.raises(WeightsError) as caught:
        fit(GIVEN | {"a": values}, WANTED)
    assert "weights of a network must be finite.\n  file: a holds NaN or infinite values" in str(caught.value)


def test_infinities_that_cancel_are_seen() -> None:
    with pytest.raises(WeightsError, match="finite"):
        fit(GIVEN | {"a": torch.tensor([math.inf, -math.inf, 1, 1])}, WANTED)


def test_numbers_too_large_for_float32_are_not_made_infinite_unseen() -> None:
    with pytest.raises(WeightsError, match="finite"):
        fit(GIVEN | {"a": torch.full((4,), 1e300, dtype=torch.float64)}, WANTED)


def test_large_numbers_whose_sum_overflows_are_finite() -> None:
    large = torch.full((4,), 3e38)
    assert torch.isinf(large.sum())
    assert torch.equal(fit(GIVEN | {"a": large}, WANTED)["a"], large)
