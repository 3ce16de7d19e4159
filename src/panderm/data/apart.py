"""A process of its own for the codecs that a damaged file can bring down.

On mutated files the bindings of libheif and GDCM have been seen to end the whole process. They therefore run
in a child, which is sent a file's bytes and answers with pixels; where it dies, the file is damaged, and the
next one gets a new child. Children are kept between pictures and end with their parent.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from dataclasses import asdict
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from panderm.data.dicom import open_dicom
from panderm.data.heic import open_heic
from panderm.data.stored import Stored, Unreadable

Kind = Literal["HEIC", "DICOM"]

# No picture within the limit of pixels takes a minute; a decoder that runs longer has lost its way.
_MOST_SECONDS = 120.0
_ASK = struct.Struct("<cdQ")
_ANSWER = struct.Struct("<cIIIQ")
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from panderm.data.apart import serve; serve()"
)


def decode_apart(kind: Kind, content: bytes, max_megapixels: float) -> tuple[npt.NDArray[np.uint8], Stored]:
    """Decode a file in another process; as :func:`open_heic` and :func:`open_dicom`.

    Raises:
        Unreadable: as said over there.
        ValueError: damaged; or the decoder over there died of it, or took longer than two minutes.
    """
    child = _take()
    try:
        status, words, shape, pixels = child.ask(kind, content, max_megapixels)
    except (EOFError, OSError):
        child.end()
        took = "took longer than two minutes" if child.late else "crashed on it"
        raise ValueError(f"the {kind} decoder {took}") from None
    except BaseException:
        child.end()
        raise
    _give_back(child)
    if status == b"u":
        raise Unreadable(words)
    if status == b"d":
        raise ValueError(words)
    return np.frombuffer(pixels, dtype=np.uint8).reshape(*shape, 3), Stored(**json.loads(words))


class _Child:
    def __init__(self) -> None:
        self.late = False
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.to, self.out = self.process.stdin, self.process.stdout

    def ask(
        self, kind: Kind, content: bytes, max_megapixels: float
    ) -> tuple[bytes, str, tuple[int, int], bytes]:
        watch = threading.Timer(_MOST_SECONDS, self._too_late)
        watch.daemon = True
        watch.start()
        try:
            self.to.write(_ASK.pack(kind[:1].encode(), max_megapixels, len(content)))
            self.to.write(content)
            self.to.flush()
            status, said, height, width, size = _ANSWER.unpack(_read(self.out, _ANSWER.size))
            return status, _read(self.out, said).decode(), (height, width), _read(self.out, size)
        finally:
            watch.cancel()

    def _too_late(self) -> None:
        self.late = True
        self.process.kill()

    def end(self) -> None:
        self.process.kill()
        for pipe in (self.to, self.out):
            with contextlib.suppress(OSError):
                pipe.close()
        self.process.wait()


# Children without work, of this process: a fork must not use its parent's.
_idle: list[_Child] = []
_owner = os.getpid()
_lock = threading.Lock()


def _take() -> _Child:
    global _owner
    with _lock:
        if _owner != os.getpid():
            _idle.clear()
            _owner = os.getpid()
        while _idle:
            child = _idle.pop()
            if child.process.poll() is None:
                return child
            child.end()
    try:
        return _Child()
    except OSError as error:
        raise Unreadable(f"its decoder cannot be started ({error.strerror})") from None


def _give_back(child: _Child) -> None:
    with _lock:
        _idle.append(child)


@atexit.register
def _end_all() -> None:
    with _lock:
        while _idle and _owner == os.getpid():
            _idle.pop().end()


def _read(source: IO[bytes], size: int) -> bytes:
    content = source.read(size)
    if len(content) < size:
        raise EOFError
    return content


def serve() -> None:
    """Answer a parent's questions until it closes the pipe: the child's side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    source, out = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a codec prints must not get among the answers
    while head := source.read(_ASK.size):
        kind, max_megapixels, size = _ASK.unpack(head)
        content = _read(source, size)
        height = width = 0
        pixels = b""
        try:
            rgb, stored = (open_heic if kind == b"H" else open_dicom)(content, max_megapixels)
            status, words, (height, width, _) = b"p", json.dumps(asdict(stored)), rgb.shape
            pixels = rgb.tobytes()
        except Unreadable as error:
            status, words = b"u", str(error)
        except Exception as error:
            status, words = b"d", str(error) or type(error).__name__
        said = words.encode()
        out.write(_ANSWER.pack(status, len(said), height, width, len(pixels)))
        out.write(said)
        out.write(pixels)
        out.flush()
