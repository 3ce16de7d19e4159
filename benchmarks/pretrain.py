"""Images per second of a pretraining step, with and without visible-only encoding, beside its arithmetic.

    python benchmarks/pretrain.py [--student tiny small] [--batch-size 32] [--rounds 7] [--threads 1]
    python benchmarks/pretrain.py --student base large --device cuda

A step is forward, backward, clipping and AdamW, on drawn pixels, masks and teacher's tokens that wait on the
device: the teacher and the reading of images are not in it. "visible" is the step of panderm pretrain; in
"all" the encoder sees the masked patches too, and what follows is the same. In each round every way takes one
step, in an order that rotates; rates are medians over rounds, ratios those to "all" of the same precision in
the same round. The floor is the arithmetic of a step, counted from its products' shapes, at the rate of a
large matrix product timed in the same rounds. bf16 is measured where the processor has it. On a machine that
others use, --processor-time leaves out what they take, though not what they take of caches and memory.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from panderm.errors import PandermError
from panderm.models.encoder import pick_device
from panderm.models.precision import choose
from panderm.pretraining.masks import MaskDrawer, masked_patches
from panderm.pretraining.objective import alignment
from panderm.pretraining.student import STUDENTS, PretrainingModel, find_student

Step = Callable[[], float]
BATCHES = {"tiny": 32, "small": 16, "base": 8, "large": 4}
FAST = r"\b(avx512f|avx512_bf16|avx512_vnni|amx_bf16|avx2)\b"


class Way(NamedTuple):
    """How a step is taken."""

    title: str
    sees_all: bool = False
    bf16: bool = False
    twice: bool = False  # gradient checkpointing
    compiled: bool = False


WAYS = {
    "all": Way("all, fp32", sees_all=True),
    "visible": Way("visible, fp32"),
    "all-bf16": Way("all, bf16", sees_all=True, bf16=True),
    "visible-bf16": Way("visible, bf16", bf16=True),
    "checkpointed": Way("visible, bf16, checkpointed", bf16=True, twice=True),
    "compiled": Way("visible, bf16, compiled", bf16=True, compiled=True),
}


class SeesAll(PretrainingModel):
    """The same model whose encoder computes masked patches too; what follows is the same."""

    def forward(self, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        order = mask.to(torch.uint8).argsort(dim=1, stable=True).to(pixels.device)
        visible = order.shape[1] - int(mask[0].sum())
        seen, unseen = order[:, :visible], order[:, visible:]
        rows = torch.arange(len(order), device=pixels.device)[:, None]
        x = self.encoder(pixels, None, self._kept(pixels))
        positions = self.rd_pos_embed[0, 1:]
        queries = self.mask_token.expand(*unseen.shape, -1)
        found = self.regresser(queries, x[rows, 1 + seen], positions[unseen], positions[seen])
        x = torch.index_put(x, (rows, 1 + unseen), found.to(x.dtype))
        made: torch.Tensor = self.decoder(x)
        return made


def make(name: str, way: Way, batch: int, args: argparse.Namespace) -> Step:
    kind = SeesAll if way.sees_all else PretrainingModel
    model = kind(name, target_dim=args.target_dim).to(args.device).train()
    model.checkpointed = way.twice
    student, rng = model.student, np.random.default_rng(0)
    drawer = MaskDrawer(model.grid, masked_patches(args.mask_ratio or student.mask_ratio, 196))
    mask = torch.from_numpy(np.stack([drawer.draw(rng) for _ in range(batch)]))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(batch, 3, 224, 224, generator=generator).to(args.device)
    target = torch.randn(batch, 197, args.target_dim, generator=generator).to(args.device)
    learning = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4, weight_decay=0.05, fused=True)
    called: Any = torch.compile(model) if way.compiled else model

    def step() -> float:
        with torch.autocast(args.device.type, torch.bfloat16, enabled=way.bf16):
            loss = alignment(called(pixels, mask), target, mask).loss
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 3.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())  # waits until all is done

    return step


def rate(a: torch.Tensor, b: torch.Tensor, clock: Callable[[], float]) -> float:  # operations a second
    last = torch.mm(a, b)
    started = clock()
    for _ in range(10):
        last = torch.mm(a, b)
    last[0, 0].item()
    return 10 * 2.0 * a.shape[0] * b.numel() / (clock() - started)


class Told(NamedTuple):
    """What the first steps told: operations an image (0: not counted), the second loss, GiB at the peak."""

    work: float
    loss: float
    memory: float


def first_steps(name: str, way: Way, batch: int, args: argparse.Namespace) -> tuple[Step, Told]:
    step = make(name, way, batch, args)
    cuda = args.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    counter = FlopCounterMode(display=False)  # two for a product and its sum
    with contextlib.nullcontext() if way.compiled or way.twice else counter:
        step()
    loss = step()
    memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    return step, Told(counter.get_total_flops() / batch, loss, memory)


def measure(name: str, names: list[str], batch: int, args: argparse.Namespace) -> None:
    cuda = args.device.type == "cuda"
    steps, told = dict[str, Step](), dict[str, Told]()
    for each in names:
        try:
            step, told[each] = first_steps(name, WAYS[each], batch, args)
        except Exception as error:
            print(f"{WAYS[each].title}: left out, {error!r:.150}")
        else:
            steps[each] = step
    m, k, n = (8192, 8192, 8192) if cuda else (3152, 768, 3072)
    products = {}
    for bf16 in {WAYS[each].bf16 for each in steps}:
        a, b = (torch.randn(shape, device=args.device) for shape in ((m, k), (k, n)))
        products[bf16] = (a.bfloat16(), b.bfloat16()) if bf16 else (a, b)
    seconds = {each: list[float]() for each in steps}
    peaks = {bf16: list[float]() for bf16 in products}
    order = list(steps)
    for r in range(args.rounds):
        for each in order[r % len(order) :] + order[: r % len(order)]:
            started = args.clock()
            steps[each]()
            seconds[each].append(args.clock() - started)
        for bf16, (a, b) in products.items():
            peaks[bf16].append(rate(a, b, args.clock))
    masked = masked_patches(args.mask_ratio or find_student(name).mask_ratio, 196)
    head = f"{'images/s':>9} {'ratio':>6} {'GFLOP/image':>12} {'floor':>8} {'of floor':>9} {'loss':>7}"
    print(
        f"\n{name}, {masked} of 196 patches masked, teacher's tokens of width {args.target_dim}; batches of "
        f"{batch}, {args.rounds} rounds\n{'':28} {head}{'  memory' if cuda else ''}"
    )
    for each in steps:
        way = WAYS[each]
        base = "all-bf16" if way.bf16 else "all"
        # What is computed twice is counted once.
        work = next(told[w].work for w in told if WAYS[w].sees_all == way.sees_all and told[w].work)
        floors, speeds = np.array(peaks[way.bf16]) / work, batch / np.array(seconds[each])
        floor, speed, share = np.median(floors), np.median(speeds), np.median(speeds / floors)
        ratio = np.median(np.divide(seconds[base], seconds[each])) if base in seconds else np.nan
        print(
            f"{way.title:28} {speed:9.2f} {ratio:6.2f} {work / 1e9:12.2f} {floor:8.1f} {share:9.0%}"
            f" {told[each].loss:7.4f}" + (f" {told[each].memory:5.1f} GiB" if cuda else "")
        )
    for bf16, rates in peaks.items():
        kind = "bf16" if bf16 else "fp32"
        print(f"{kind} product {m} × {k} × {n}: {np.median(rates) / 1e12:.3f} TFLOP/s", flush=True)
    if {"visible", "visible-bf16"} <= seconds.keys():
        faster = np.median(np.divide(seconds["visible"], seconds["visible-bf16"]))
        print(f"bf16 against fp32, visible: {faster:.2f}", flush=True)


def machine(device: torch.device) -> str:
    text = "".join(file.read_text() for file in [Path("/proc/cpuinfo")] if file.exists())
    cpu = [*re.findall("model name.*: (.*)", text), platform.machine()][0]
    has = " ".join(sorted(set(re.findall(FAST, text))))
    gpu = f"; {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{cpu} ({has}), {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}{gpu}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", nargs="+", default=["tiny", "small"], choices=[s.name for s in STUDENTS])
    parser.add_argument("--batch-size", type=int, help="by size 32, 16, 8, 4 on a CPU; 256 on a GPU")
    parser.add_argument("--mask-ratio", type=float, help="without it the student's")
    parser.add_argument("--target-dim", type=int, default=768, help="width of the teacher's tokens")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), help="without it all, compiled excepted")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="without it PyTorch's choice")
    parser.add_argument(
        "--processor-time", action="store_true", help="count the time of one thread, not the wall clock's"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    try:
        args.device = pick_device(args.device)
        args.clock = time.process_time if args.processor_time else time.perf_counter
        if args.processor_time and (torch.get_num_threads() > 1 or args.device.type != "cpu"):
            parser.error("--processor-time is for --threads 1 on a CPU")
        print(f"{machine(args.device)}\ntorch {torch.__version__}, {torch.get_num_threads()} threads")
        names = args.ways or [each for each in WAYS if each != "compiled"]
        if args.ways is None and choose("auto", args.device) != "bf16":
            names = [each for each in names if not WAYS[each].bf16]
        for name in args.student:
            batch = args.batch_size or (256 if args.device.type == "cuda" else BATCHES[name])
            measure(name, names, batch, args)
    except PandermError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
