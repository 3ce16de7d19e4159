"""8-bit networks for OpenVINO: made once for an encoder and its calibration images, then kept in the cache.

    CACHE/openvino/<key>/model.xml, model.bin     the network
    CACHE/openvino/<key>/card.json                of what, with which libraries; the sha256 of model.bin

Quantising takes minutes and several times the network's memory: a process of its own does it, and so
gives the memory back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from panderm.embeddings import EncoderRecord
from panderm.errors import ArtifactError, UsageError, plural
from panderm.progress import say
from panderm.provenance import CARD_NAME, Record
from panderm.storage import flush, sha256_of_file, sha256_of_json, write_json
from panderm.weights.cache import cache_folder, explain_cache_errors, read_if_whole

# Images that a network is calibrated on, where a table has as many; below the fewest nothing is made.
CALIBRATION = 64
FEWEST = 12
# What decides the float32 network.
_DECISIVE = {"name", "architecture", "weights_sha256", "pool", "image_size", "preprocess"}
_NETWORK, _WEIGHTS = "model.xml", "model.bin"
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from panderm.models.quantised import serve; serve(*sys.argv[2:])"
)


class QuantisedCard(Record):
    """What lies beside a quantised network in the cache."""

    format: int = 1
    encoder: dict[str, Any]
    images: int
    ranges: str
    versions: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class Quantised:
    """A quantised network: where it lies, and the hash of its weights and scales."""

    path: Path
    sha256: str


def quantise(convert: Callable[[], Any], images: npt.NDArray[np.float32], record: EncoderRecord) -> Quantised:
    """Return the 8-bit form of a network, calibrated on images; made only where the cache has none.

    Post-training quantisation by NNCF: weights symmetric, one scale an output; activations one scale a
    tensor, by the smallest and largest number seen on any calibration image; SmoothQuant (Xiao et al., ICML
    2023) first moves what is large in a channel from activations into weights. On 64 other images of a real
    ViT-S/14 (DINOv2) the centred cosine to float32 was .996 on average and .985 at worst; with NNCF's own
    choice, the mean of each image's extremes, .991 and .918.

    Args:
        convert: gives the float32 network as OpenVINO has it; called only where it is needed.
        images: normalised float32 (n, 3, S, S).
        record: of the encoder.

    Raises:
        ArtifactError: the cache cannot be written, or quantising failed.
    """
    card = {
        "encoder": record.model_dump(mode="json", include=_DECISIVE),
        "images": len(images),
        "ranges": "minmax",
        "versions": {name: version(name) for name in ("openvino", "nncf", "torch")},
    }
    key = sha256_of_json({**card, "pixels": hashlib.sha256(images.tobytes()).hexdigest()})[:32]
    home = _home()
    with explain_cache_errors(home, "the quantised network"):
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f".{key}.lock"):  # who comes second finds what the first has made
            return _whole(home / key) or _made(convert, images, record, home, key, card)


def require_enough(calibration: int, images: int) -> None:
    """Raise :class:`UsageError` where too few images are to be calibrated on, of all that were given."""
    if calibration < FEWEST:
        raise UsageError(
            f"a network of 8 bits must be calibrated on at least {FEWEST} images.",
            f"found {images}: {calibration} to calibrate on, the others to compare with float32",
            "--precision bf16",
        )


def held(sha256: str, record: EncoderRecord) -> Quantised:
    """Return the quantised network of this hash from the cache.

    Raises:
        ArtifactError: it is not there.
    """
    for folder in _home().glob("*/"):
        card = read_if_whole(QuantisedCard, folder / CARD_NAME)
        if card is not None and card.sha256 == sha256 and (found := _whole(folder)) is not None:
            return found
    raise ArtifactError(
        "the 8-bit network that an embeddings folder was begun with must be in the cache.",
        f"{record.name}: {sha256[:12]}… is not in {_home()}",
        "go on where the folder was begun, or add --overwrite to begin anew",
    )


def _home() -> Path:
    return cache_folder() / "openvino"


def _whole(folder: Path) -> Quantised | None:
    """Return what a folder holds, or None where there is nothing, or it is not what its card says."""
    card = read_if_whole(QuantisedCard, folder / CARD_NAME)
    if card is None or not (folder / _NETWORK).is_file() or not (folder / _WEIGHTS).is_file():
        return None
    if sha256_of_file(folder / _WEIGHTS) != card.sha256:
        return None
    return Quantised(folder / _NETWORK, card.sha256)


def _made(
    convert: Callable[[], Any],
    images: npt.NDArray[np.float32],
    record: EncoderRecord,
    home: Path,
    key: str,
    card: dict[str, Any],
) -> Quantised:
    say(
        f"quantising {record.name} to 8 bits on {plural(len(images), 'image')}: "
        "one to five minutes, once; the result is kept"
    )
    _sweep(home)
    with _partial(home, key) as partial:
        import openvino

        source, pixels = partial / "float.xml", partial / "pixels.npy"
        openvino.save_model(convert(), source, compress_to_fp16=False)
        np.save(pixels, images, allow_pickle=False)
        _in_a_child(record.name, source, pixels, partial / _NETWORK)
        for file in (source, source.with_suffix(".bin"), pixels):
            file.unlink()
        sha256 = sha256_of_file(partial / _WEIGHTS)
        write_json(partial / CARD_NAME, QuantisedCard(**card, sha256=sha256).model_dump(mode="json"))
        for file in partial.iterdir():
            flush(file)
        shutil.rmtree(home / key, ignore_errors=True)  # one that was not whole
        partial.replace(home / key)
        flush(home)
    return Quantised(home / key / _NETWORK, sha256)


@contextlib.contextmanager
def _partial(home: Path, key: str) -> Iterator[Path]:
    folder = home / f".{key}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Remove what processes that were killed left half-way."""
    for partial in home.glob(".*.partial"):
        with contextlib.suppress(Timeout), FileLock(partial.with_suffix(".lock"), timeout=0):
            shutil.rmtree(partial, ignore_errors=True)


def _in_a_child(name: str, source: Path, pixels: Path, out: Path) -> None:
    words = [sys.executable, "-c", _START, json.dumps(sys.path), str(source), str(pixels), str(out)]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr
    try:
        said = child.stderr.read()  # its stdin stays open: when it closes, this process is gone
        child.wait()
    finally:  # Ctrl-C ends it too
        if child.poll() is None:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stderr):
            if pipe is not None:
                pipe.close()
    if child.returncode or not out.is_file():
        lines = said.decode(errors="replace").strip().splitlines() or [f"it ended with {child.returncode}"]
        raise ArtifactError(
            f"{name} must be quantised to 8 bits before it is used so.",
            f"NNCF did not end well: {lines[-1]}",
            "it needs several times the network's memory; or --precision bf16",
        )


def serve(source: str, pixels: str, out: str) -> None:
    """Quantise a float32 network on images: the child's side, which ends with its parent."""

    def watch() -> None:
        os.read(0, 1)  # not by a buffer, whose lock the end of Python would wait for
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    images = np.load(pixels, allow_pickle=False)
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import nncf
    import openvino
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(40)  # errors only
    ranges = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        network = nncf.quantize(
            openvino.Core().read_model(source),
            nncf.Dataset([image[None] for image in images]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(images),
            advanced_parameters=ranges,
        )
    openvino.save_model(network, out, compress_to_fp16=False)
