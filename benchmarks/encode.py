"""Images per second of an encoder, and its drift, the ways one can run it: side by side in one process.

    python benchmarks/encode.py --encoder panderm-base panderm-large [--batch-size 8] [--images 40]
    python benchmarks/encode.py --encoder timm:vit_small_patch14_dinov2 --weights FILE --image-size 224

PanDerm's weights are drawn unless a file is named: speed does not depend on them, drift does. In each round
every way encodes the same batch of drawn lesions, in an order that rotates. Rates are medians over rounds, as
are ratios to "fp32 eager" in the same round; drift is against "fp32 fused". "ours" is what panderm embed
runs, from 8-bit RGB on. The last row is a large matrix product, timed in the same rounds: what the hardware
can do. onnx, onnxruntime, openvino, nncf are optional.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import multiprocessing
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.flop_counter import FlopCounterMode

import panderm
from panderm.data.drawn import CLASSES, TONES, draw_lesion
from panderm.data.preprocess import Preprocess
from panderm.embeddings import EncoderRecord, Precision
from panderm.errors import PandermError
from panderm.exported.parity import resized
from panderm.models.encoder import pick_device
from panderm.models.families import family_of
from panderm.models.inference import TorchEngine
from panderm.models.names import find_card
from panderm.models.network import draw_weights
from panderm.models.openvino_engine import OpenVINOEngine
from panderm.models.precision import autocast, choose
from panderm.models.quantised import CALIBRATION
from panderm.statistics.similarity import centred_cosines, cosines

# These libraries report to their makers as soon as they are opened. OpenVINO and NNCF stay silent without the
# package, ONNX Runtime where this is set. Not in main(): the process that quantises must have it too.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Each way to run an encoder: its title, its precision, the file it reads, the libraries it needs for that.
WAYS: dict[str, tuple[str, Precision, str, str]] = {
    "eager": ("fp32 eager", "fp32", "", ""),
    "fused": ("fp32 fused", "fp32", "", ""),
    "bf16": ("bf16", "bf16", "", ""),
    "fp16": ("fp16", "fp16", "", ""),
    "compiled": ("bf16 compiled", "bf16", "", ""),
    "ours-fp32": ("ours fp32", "fp32", "", ""),
    "ours": ("ours bf16", "bf16", "", ""),
    "ours-openvino": ("ours, OpenVINO bf16", "bf16", "", "openvino"),
    "ours-int8": ("ours, OpenVINO int8", "int8", "", "openvino nncf"),
    "onnx": ("ONNX Runtime fp32", "fp32", "fp32.onnx", "onnx onnxscript onnxruntime"),
    "onnx-int8": ("ONNX Runtime int8", "fp32", "int8.onnx", "onnx onnxscript onnxruntime"),
    "openvino": ("OpenVINO fp32", "fp32", "fp32.onnx", "onnx onnxscript openvino"),
    "openvino-bf16": ("OpenVINO bf16", "bf16", "fp32.onnx", "onnx onnxscript openvino"),
    # What int8 leaves over is bfloat16, where the CPU has it.
    "openvino-int8": ("OpenVINO int8 (NNCF)", "bf16", "nncf.xml", "onnx onnxscript openvino nncf"),
}
# What a CPU may have that makes fewer bits faster.
FAST = r"\b(avx2|avx512f|avx512_bf16|avx512_vnni|avx_vnni|amx_bf16|amx_int8)\b"
PACKAGES = ("torch", "timm", "onnxruntime", "openvino", "nncf")
RGB = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]
Encode = Callable[[npt.NDArray[np.int64]], Vectors]  # rows of the images → their vectors


class Eye(NamedTuple):
    name: str
    network: torch.nn.Module  # float32, attention fused
    preprocess: Preprocess
    weights: str


def load(name: str, weights: str | None, image_size: int | None) -> Eye:
    card = find_card(name, image_size=image_size)
    if weights is None and card.layout == "panderm":
        network, told = family_of(card).build(card, None).eval(), "drawn weights"
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        network.load_state_dict(draw_weights(shapes, 0), strict=True, assign=True)
    else:
        encoder = panderm.load_encoder(name, weights=weights, image_size=image_size, device="cpu")
        network, told = encoder.network, Path(encoder.record.weights or "").name
    fuse(network, True)
    return Eye(name, network.requires_grad_(requires_grad=False), card.preprocess, told)


def fuse(network: Any, fused: bool) -> Any:
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    return network


def lesion(seed: int) -> RGB:
    label, tone = CLASSES[seed % len(CLASSES)], TONES[seed % len(TONES)]
    return draw_lesion(np.random.default_rng(seed), label=label, tone=tone, difficulty=1)[0]


def write_files(eye: Eye, files: set[str], folder: Path, calibration: int) -> None:
    """Write the files that are read; ways whose file cannot be written are left out later."""
    try:
        import onnx

        from panderm.exported.graph import encoder_graph
        from panderm.exported.int8 import to_int8

        model = encoder_graph(eye.network, eye.preprocess, name=eye.name)
        onnx.save(model, folder / "fp32.onnx")
        if "int8.onnx" in files:
            to_int8(model, name=eye.name)
            onnx.save(model, folder / "int8.onnx")
        del model
        if "nncf.xml" in files:
            rgb = np.stack([resized(lesion(10_000 + i), eye.preprocess) for i in range(calibration)])
            # In a process of its own: it needs several times the network's memory, and so gives it back.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                pool.submit(quantise, folder / "fp32.onnx", folder / "nncf.xml", rgb).result()
    except Exception as error:  # of whatever library: the other ways can still be compared
        print(f"{eye.name}: export stopped, {error!r:.150}")


def quantise(source: Path, out: Path, rgb: RGB) -> None:
    """Write the int8 form that NNCF makes of an ONNX file: smoothed activations, calibrated on images."""
    import nncf
    import openvino

    nncf.set_log_level(40)  # errors only
    images, kind = nncf.Dataset([image[None] for image in rgb]), nncf.ModelType.TRANSFORMER
    model = openvino.Core().read_model(source)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        model = nncf.quantize(model, images, model_type=kind, subset_size=len(rgb))
    openvino.save_model(model, out, compress_to_fp16=False)


def make(name: str, eye: Eye, pixels: torch.Tensor, rgb: RGB, batch: int, folder: Path) -> Encode:
    network, (_, precision, file, libraries) = eye.network, WAYS[name]
    if name.startswith("ours"):
        return of_ours(eye, precision, rgb, pixels.device, "openvino" in libraries, folder)
    if "openvino" in libraries:
        return of_openvino(folder / file, rgb, batch, "bf16" if precision == "bf16" else "f32")
    if file:
        return of_onnxruntime(folder / file, rgb)
    if name == "eager":
        shared: dict[int, Any] = {id(t): t for t in (*network.parameters(), *network.buffers())}
        network = fuse(copy.deepcopy(network, shared), False)
    run: Any = torch.compile(network) if name == "compiled" else network

    def encode(rows: npt.NDArray[np.int64]) -> Vectors:
        with torch.inference_mode(), autocast(precision, pixels.device):
            return np.asarray(run(pixels[torch.from_numpy(rows)]).float().cpu().numpy())

    return encode


def of_ours(
    eye: Eye, precision: Precision, rgb: RGB, device: torch.device, openvino: bool, folder: Path
) -> Encode:
    images = torch.from_numpy(rgb)
    if not openvino:
        engine: Any = TorchEngine(eye.network, eye.preprocess, device)
    else:
        card = find_card(eye.name, image_size=eye.preprocess.crop)
        drawn = {"name": eye.name, "weights_sha256": eye.weights, "preprocess": eye.preprocess.model_dump()}
        told = {"architecture": card.architecture, "dim": 0, "weights": None, "account": "", "random": True}
        form = {"pool": "", "precision": precision, "image_size": eye.preprocess.crop}
        record = EncoderRecord(**drawn, **told, **form, licence="", citation="", source="")
        engine = OpenVINOEngine(eye.network, eye.preprocess, record)
        if precision == "int8":
            os.environ["XDG_CACHE_HOME"] = str(folder.resolve())  # it is not kept
            others = np.stack([resized(lesion(10_000 + i), eye.preprocess) for i in range(CALIBRATION)])
            engine.calibrate(eye.preprocess.normalise(torch.from_numpy(others)))

    def encode(rows: npt.NDArray[np.int64]) -> Vectors:
        return np.asarray(engine.run(images[torch.from_numpy(rows)], precision).cpu().numpy())

    return encode


def of_onnxruntime(path: Path, rgb: RGB) -> Encode:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Its threads would otherwise wait in a busy loop while the next way is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda rows: np.asarray(session.run(["embedding"], {"rgb": rgb[rows]})[0])


def of_openvino(path: Path, rgb: RGB, batch: int, precision: str) -> Encode:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([batch, *rgb.shape[1:]])  # a fixed shape suits it best
    hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": str(torch.get_num_threads())}
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"} | hints)
    return lambda rows: np.array(compiled(rgb[rows])[0])


def rate(a: torch.Tensor, b: torch.Tensor) -> float:  # operations a second
    started = time.perf_counter()
    for _ in range(10):
        last = torch.mm(a, b)
    last[0, 0].item()  # waits until all are done
    return 10 * 2.0 * a.shape[0] * b.numel() / (time.perf_counter() - started)


def measure(eye: Eye, names: list[str], batch: int, args: argparse.Namespace, folder: Path) -> None:
    lesions = [lesion(seed) for seed in range(args.images)]
    rgb = np.stack([resized(image, eye.preprocess) for image in lesions])
    # They wait on the device: what is timed is the network.
    pixels = torch.stack([eye.preprocess(image) for image in lesions]).to(args.device)
    best = choose("auto", pixels.device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(best, torch.float32)
    # The largest product of ViT-B on 16 images; a GPU wants more to be busy.
    m, k, n = (8192, 8192, 8192) if pixels.device.type == "cuda" else (3152, 768, 3072)
    a, b = (torch.randn(shape, device=args.device).to(dtype) for shape in ((m, k), (k, n)))
    rounds = args.rounds or max(5, -(-args.images // batch))
    rows = np.arange(rounds * batch).reshape(rounds, batch) % args.images
    ways, ready = dict[str, Encode](), dict[str, float]()
    for name in names:
        started = time.perf_counter()
        try:
            encode = make(name, eye, pixels, rgb, batch, folder)
            for _ in range(3 if pixels.device.type == "cuda" else 1):
                encode(rows[0])
            ways[name], ready[name] = encode, time.perf_counter() - started
        except Exception as error:
            if name in ("eager", "fused"):
                raise
            print(f"{WAYS[name][0]}: left out, {error!r:.150}")
    rate(a, b)  # warms up
    with FlopCounterMode(display=False) as counter:  # from the shapes; two for a product and its sum
        ways["eager"](rows[0])
    work, order, peaks = counter.get_total_flops() / batch, list(ways), []
    seconds, made = {name: list[float]() for name in ways}, {name: dict[int, Vectors]() for name in ways}
    for r in range(rounds):
        for name in order[r % len(order) :] + order[: r % len(order)]:
            started = time.perf_counter()
            vectors = ways[name](rows[r])
            seconds[name].append(time.perf_counter() - started)
            made[name].update(zip(rows[r].tolist(), vectors, strict=True))
        peaks.append(rate(a, b))
    peak = float(np.median(peaks))
    print(
        f"\n{eye.name}, {eye.weights}, {eye.preprocess.crop} px, {work / 1e9:.1f} GFLOP an image; batches of "
        f"{batch}, {rounds} rounds, {len(made['fused'])} drawn lesions\n{'':20} {'images/s':>9} {'ratio':>6}"
        f" {'smallest cosine':>16} {'mean centred':>13} {'of ' + best + ' product':>16} {'ready after':>12}"
    )
    exact = np.stack([made["fused"][i] for i in sorted(made["fused"])])
    for name in ways:
        vectors = np.stack([made[name][i] for i in sorted(made[name])])
        plain, centred = cosines(exact, vectors).min(), centred_cosines(exact, vectors).mean()
        speed, ratio = batch / np.median(seconds[name]), np.median(np.divide(seconds["eager"], seconds[name]))
        print(
            f"{WAYS[name][0]:20} {speed:9.2f} {ratio:6.2f} {plain:16.6f} {centred:13.5f}"
            f" {speed * work / peak:16.0%} {ready[name]:10.1f} s"
        )
    print(f"{best + ' product':20} {peak / work:9.2f}   {peak / 1e12:.3f} TFLOP/s", flush=True)


def machine(device: torch.device) -> str:
    text = "".join(file.read_text() for file in [Path("/proc/cpuinfo")] if file.exists())
    cpu = [*re.findall("model name.*: (.*)", text), platform.machine()][0]
    has = " ".join(sorted(set(re.findall(FAST, text))))
    gpu = f"; {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{cpu} ({has}), {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}{gpu}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", nargs="+", default=["panderm-base", "panderm-large"])
    parser.add_argument("--weights", help="file of the one encoder named; without it PanDerm's are drawn")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int, nargs="+", help="8 on a CPU, 64 and 256 on a GPU")
    parser.add_argument("--images", type=int, default=40, help="lesions that are drawn")
    parser.add_argument("--rounds", type=int, help="without it enough for all images, 5 or more")
    parser.add_argument("--calibration", type=int, default=32, help="other lesions, which NNCF sees")
    parser.add_argument("--skip", nargs="+", default=[], choices=list(WAYS)[2:])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of every library; without it PyTorch's choice")
    args = parser.parse_args()
    if args.weights and len(args.encoder) > 1:
        parser.error("--weights is for one --encoder")
    torch.set_num_threads(args.threads or torch.get_num_threads())
    try:
        args.device = pick_device(args.device)
        packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES if find_spec(name))
        print(f"{machine(args.device)}\n{packages}; {torch.get_num_threads()} threads")
        names, cuda = [], args.device.type == "cuda"
        for name, (title, _, file, libraries) in WAYS.items():
            # Exported files run on a CPU, which has no arithmetic for float16.
            if name in args.skip or (file or "openvino" in libraries if cuda else name == "fp16"):
                continue
            if absent := [library for library in libraries.split() if find_spec(library) is None]:
                print(f"{title}: not installed ({', '.join(absent)})")
            else:
                names.append(name)
        files = {WAYS[name][2] for name in names} - {""}
        for encoder in args.encoder:
            eye = load(encoder, args.weights, args.image_size)
            with tempfile.TemporaryDirectory() as folder:
                if files:
                    write_files(eye, files, Path(folder), args.calibration)
                eye.network.to(args.device)
                for batch in args.batch_size or ([64, 256] if cuda else [8]):
                    torch.compiler.reset()
                    measure(eye, names, batch, args, Path(folder))
    except PandermError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
