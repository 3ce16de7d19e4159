"""Open an untrusted weights file safely: tensors are read, nothing is run.

PyTorch's own reader is not used, not even its safe mode, which builds what a file names, at the size it
asks for, from a list of types that grows with each version. A file is described first (``pickled``,
``torch_file``, ``safetensors_file``), checked against its own size, and only then are the tensors that are
wanted read.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from panderm.errors import WeightsError, some
from panderm.weights.account import Account
from panderm.weights.pickled import Bag, Made, Name, Pairs
from panderm.weights.safetensors_file import is_safetensors, open_safetensors
from panderm.weights.stored import HoldsCodeError, NotWholeError, OtherContentError, Spec, read_tensors
from panderm.weights.torch_file import TorchFile, open_legacy, open_zip

_WRAPPERS = ("model", "state_dict", "module")
CLASSIFIER = "panderm-classifier"  # in the header of a file that holds a classifier's head too
HEAD = ("head.weight", "head.bias")
SEGMENTER = "panderm-segmenter"  # in the header of a file that holds a decoder too, or a U-Net
DECODER = ("decoder.", "network.")
_LONGEST_NAME = 200  # letters


def read_state(path: Path, account: Account, *, data: bool = True) -> dict[str, torch.Tensor]:
    """Read the tensors of a ``.safetensors`` or PyTorch file without running anything it holds.

    A wrapper (``{'model': …}``, ``state_dict``, ``module``) is opened; what lies beside it is accounted for
    and not read, nor is the head of a classifier or the decoder of a segmenter that panderm wrote. Peak
    memory is that of the tensors returned.

    Args:
        path: the file.
        account: where to note what was left out.
        data: False for the tensors' names, shapes and types only (on the meta device): their numbers are
            not read, so that a file that does not fit can be refused before gigabytes are.

    Raises:
        WeightsError: missing, empty, truncated, a web page, a pickle with code in it, or no tensors.
    """
    with _opened(path) as file:
        specs = _strip(_tensors(path, _content(path, file), account), "module.")
        for name, why in _beside(file, specs):
            del specs[name]
            account.drop(name, why)
        if not data:
            return {name: spec.outline() for name, spec in specs.items()}
        return read_tensors(file, specs)


def read_head(path: Path) -> dict[str, torch.Tensor]:
    """Read ``head.weight`` and ``head.bias`` of a classifier's file, and nothing else of it.

    Returns:
        Those that are there; ``{}`` for a file that panderm did not write as a classifier.

    Raises:
        WeightsError: as :func:`read_state`.
    """
    return _read_beside(path, CLASSIFIER)


def read_decoder(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a segmenter's file that are not its encoder's, and nothing else of it.

    Returns:
        ``decoder.…``, or ``network.…`` of a U-Net; ``{}`` for a file that panderm did not write as a
        segmenter.

    Raises:
        WeightsError: as :func:`read_state`.
    """
    return _read_beside(path, SEGMENTER)


def _read_beside(path: Path, key: str) -> dict[str, torch.Tensor]:
    with _opened(path) as file:
        if key not in _words(file):
            return {}
        specs = _tensors(path, _content(path, file), Account())
        return read_tensors(file, {name: specs[name] for name, _ in _beside(file, specs)})


def _words(file: BinaryIO) -> dict[str, str]:
    return open_safetensors(file)[1] if is_safetensors(_head(file)) else {}


def _beside(file: BinaryIO, specs: Mapping[str, Spec]) -> list[tuple[str, str]]:
    """Return the names in a file of panderm's that are not an encoder's, and why."""
    words = _words(file)
    if CLASSIFIER in words:
        return [(name, "classifier head, not used by an encoder") for name in HEAD if name in specs]
    if SEGMENTER in words:
        why = "segmentation decoder, not used by an encoder"
        return [(name, why) for name in specs if name.startswith(DECODER)]
    return []


def read_header(path: Path) -> dict[str, str]:
    """Return the words in the header of a ``.safetensors`` file; ``{}`` for a file of any other kind.

    No tensor is read. What the words say is up to whoever wrote the file.

    Raises:
        WeightsError: the file is missing or empty, or its header is damaged.
    """
    with _opened(path) as file:
        return _words(file)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a weights file, and word what is wrong with it."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        raise WeightsError(
            "the weights file must exist.", f"found no file {path}", "correct --weights"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: no file can have this name
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(kind):  # before it is opened: a pipe would keep us waiting
        raise WeightsError("the weights file must be readable.", f"{path}: it is a folder or a device")
    try:
        with path.open("rb") as file:
            if not _head(file):
                raise WeightsError(
                    "a weights file must hold weights.", f"{path} is empty", "download it again"
                )
            yield file
    except HoldsCodeError as error:
        raise WeightsError(
            "a weights file must hold tensors, not code.",
            f"{path} asks to run {_plain(str(error))}; nothing was run",
            "do not trust this file; get it from its authors again, best as .safetensors",
        ) from None
    except OtherContentError as error:
        must, found, hint = error.args
        raise WeightsError(must, found.format(path=path), hint) from None
    except NotWholeError as error:
        raise WeightsError(
            "a weights file must be whole.",
            f"{path} ({path.stat().st_size:,} bytes) is damaged, cut short or no weights file: {error}",
            "download it again and compare the size",
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> WeightsError:
    why = getattr(error, "strerror", None) or "this name cannot be that of a file"
    return WeightsError("the weights file must be readable.", f"{_escaped(str(path))}: {why}")


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(64)


def _content(path: Path, file: BinaryIO) -> Any:
    """Return what a file describes: tensors by name, or a PyTorch file's whole content."""
    head = _head(file)
    if is_safetensors(head):  # first: its header's length may look like the start of a web page
        return open_safetensors(file)[0]
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise WeightsError(
            "a weights file must hold weights.",
            f"{path} is a web page: the download was answered by a notice instead of the file",
            "download it again in a browser",
        )
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(
            "a weights file must hold weights.",
            f"{path} is a Git LFS pointer",
            "fetch the file itself: git lfs pull",
        )
    if not head.startswith((b"PK", b"\x80")):  # a zip archive, a pickle
        raise WeightsError(
            "a weights file must hold weights.",
            f"{path} is neither a PyTorch nor a safetensors file",
            "name the encoder's weights file, or download it again",
        )
    return open_zip(file) if head.startswith(b"PK") else open_legacy(file)


def _tensors(path: Path, content: dict[str, Spec] | TorchFile, account: Account) -> dict[str, Spec]:
    """Open the wrapper, if there is one; everything in it must be a tensor with a plain name."""
    state: Mapping[str, Any] | None
    if isinstance(content, TorchFile):
        state = _by_name(content.description.content)
        if state is None:
            raise WeightsError(
                "a weights file must hold named tensors.",
                f"{path} holds a {_kind(content)}",
                "give a state dict",
            )
        for name in _WRAPPERS:
            inner = _by_name(state.get(name))
            if inner is not None:
                for key in state:
                    if key != name:
                        account.drop(_shown(key), f"beside {name!r}")
                account.notes.append(f"unwrapped from {name!r}")
                state = inner
                break
        state = {key: content.tensor(value) for key, value in state.items()}
    else:
        state = content
    strange = [_shown(key) for key, value in state.items() if value is None]
    if strange or not state:
        raise WeightsError(
            "a weights file must hold named tensors only.",
            f"{path} holds {some(strange) if strange else 'none'}",
            "give the file of the encoder's weights",
        )
    for key in state:
        if not key.isprintable() or len(key) > _LONGEST_NAME:
            raise WeightsError(
                "the names in a weights file must be short and plain.",
                f"{path} names a tensor {_shown(key)}",
                "do not trust this file; get it from its authors again, best as .safetensors",
            )
    return dict(state)


def _by_name(value: object) -> dict[str, Any] | None:
    """Return a described dictionary by its names, or None for anything else.

    Raises:
        NotWholeError: one name stands twice.
    """
    if not isinstance(value, Pairs):
        return None
    found: dict[str, Any] = {}
    for key, item in value:
        # What is not named by text is no tensor of a network: kept to be complained about.
        name = key if isinstance(key, str) else "a key that is no name"
        if name in found and name is key:
            raise NotWholeError(f"it holds {_shown(key)} twice")
        found[name] = item if name is key else None
    return found


def _kind(content: TorchFile) -> str:
    value = content.description.content
    if content.tensor(value) is not None:
        return "Tensor"
    if isinstance(value, Made | Name):
        return value.name.rpartition(".")[2]
    return "set" if isinstance(value, Bag) else type(value).__name__


def _plain(name: str) -> str:
    """Return a name that a terminal can be shown, whatever a file calls it."""
    plain = name.isascii() and name.replace(".", "").isidentifier() and len(name) <= _LONGEST_NAME
    return name if plain else "something without a plain name"


def _shown(name: str) -> str:
    """Return a name from a file with its control characters escaped, cut where it is long."""
    if len(name) <= _LONGEST_NAME:
        return _escaped(name)
    return f"{_escaped(name[:60])[:60]}… ({len(name):,} letters)"


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _strip(state: dict[str, Spec], prefix: str) -> dict[str, Spec]:
    if all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return state
