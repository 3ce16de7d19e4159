"""Images per second and peak memory of a fine-tuning step, beside a plain loop with timm's own parts.

    python benchmarks/finetune.py [--network vit_tiny_patch16_224] [--batch-size 16] [--rounds 7]
    python benchmarks/finetune.py --network beit_base_patch16_224 --batch-size 128 --device cuda

Both ways have the same network and the same weights, which is checked by their logits. A step is: 8-bit
pixels that lie ready are sent to the device and normalised, mixed by mixup or CutMix with their labels,
forward, loss, backward, clipping, AdamW with a rate for each layer, and the moving average of the weights.
"panderm" is the step of panderm finetune, with what it looks at besides: whether loss and gradient are
finite, whose images they are, what the journal is told. "timm" is Mixup, SoftTargetCrossEntropy,
create_optimizer_v2 and ModelEmaV3 around a network of timm.create_model. Reading, decoding and augmenting are
not in it. In each round every way takes one step, in an order that rotates; rates are medians over rounds,
ratios those to "timm" of the same precision in the same round, with their quartiles. The peak is what a
process of its own held at most beyond what it had with all imported (Linux); on a GPU what PyTorch's
allocator held at most. bf16 is measured where the processor has it.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from panderm.embeddings.making.ranks import Ranks
from panderm.errors import PandermError
from panderm.finetuning.feed import LabelledBatch
from panderm.finetuning.layers import decay_groups_by_layer
from panderm.finetuning.learner import Classifying
from panderm.finetuning.mixing import Mix
from panderm.finetuning.network import Started, network_for
from panderm.finetuning.objective import Objective
from panderm.finetuning.views import TrainViews
from panderm.models.device import pick_device
from panderm.models.precision import choose
from panderm.training.long.plan import Plan, Positions
from panderm.training.long.step import Stepper
from panderm.training.long.together import Together

Step = Callable[[], float]
CLASSES, RATE, DECAY, LAYER_DECAY, DROP_PATH, CLIP, EMA = 7, 1e-4, 0.05, 0.75, 0.1, 3.0, 0.999
FAST = r"\b(avx512f|avx512_bf16|avx512_vnni|amx_bf16|avx2)\b"


class Way(NamedTuple):
    """How a step is taken."""

    title: str
    ours: bool = False
    bf16: bool = False
    lora: int | None = None


WAYS = {
    "timm": Way("timm, fp32"),
    "panderm": Way("panderm, fp32", ours=True),
    "timm-bf16": Way("timm, bf16", bf16=True),
    "panderm-bf16": Way("panderm, bf16", ours=True, bf16=True),
    "lora": Way("panderm, fp32, LoRA of rank 8", ours=True, lora=8),
}


class Made(NamedTuple):
    """A network, its step, and what it says of pixels before the first."""

    step: Step
    logits: torch.Tensor


def drawn(batch: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:  # uint8 (B, S, S, 3), classes
    generator = torch.Generator().manual_seed(0)
    rgb = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, generator=generator)
    return rgb, torch.randint(0, CLASSES, (batch,), generator=generator)


def begun(args: argparse.Namespace, lora: int | None) -> Started:
    """Return the network as panderm finetune makes it, of drawn weights in a file."""
    torch.manual_seed(0)
    network = timm.create_model(args.network, num_classes=0)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "drawn.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
        name = f"timm:{args.network}"
        return network_for(name, weights=file, classes=CLASSES, drop_path=DROP_PATH, lora=lora)


class Ready(Classifying):
    """The learner of fine-tuning, whose images lie ready."""

    def __init__(
        self, rgb: torch.Tensor, classes: torch.Tensor, started: Started, device: torch.device
    ) -> None:
        objective = Objective(CLASSES)
        self.rgb = rgb
        super().__init__(
            cast(Any, None),  # there is no table
            objective.targets(classes.numpy()),
            TrainViews(size=rgb.shape[1]),
            objective,
            Mix(),
            started.preprocess,
            seed=0,
            device=device,
        )

    def batches(self, epoch: int, groups: Sequence[Positions]) -> Iterator[LabelledBatch]:
        self._epoch = epoch
        for places in groups:
            yield LabelledBatch(places, places, self.rgb)

    def names(self, batch: LabelledBatch) -> list[str]:
        return [str(row) for row in batch.rows]


def ours(way: Way, args: argparse.Namespace) -> Made:
    started = begun(args, way.lora)
    rgb, classes = drawn(args.batch_size, started.preprocess.crop)
    network = started.network.to(args.device)
    learner = Ready(rgb, classes, started, args.device)
    logits = said(network, learner.preprocess.normalise(rgb.to(args.device)))
    plan = Plan(
        images=args.batch_size,
        epochs=1000,
        batch=args.batch_size,
        rate=RATE,
        decay=DECAY,
        clip=CLIP,
        precision="bf16" if way.bf16 else "fp32",
        ema=EMA,
    )
    groups = decay_groups_by_layer(network, decay=DECAY, layer_decay=LAYER_DECAY)
    stepper = Stepper(learner, network.train(), plan, Together(Ranks(), args.device), groups)
    taken = iter(range(plan.steps))

    def step() -> float:
        epoch = next(taken)
        share = [np.arange(args.batch_size, dtype=np.int64)]
        seen = stepper(epoch, share, learner.batches(epoch, share), (0.0, 0.0))
        assert seen.loss is not None
        return seen.loss

    return Made(step, logits)


def plain(way: Way, args: argparse.Namespace) -> Made:
    started = begun(args, None)
    side, preprocess = started.preprocess.crop, started.preprocess
    model = timm.create_model(args.network, num_classes=CLASSES, drop_path_rate=DROP_PATH)
    state = {k.removeprefix("encoder."): v for k, v in started.network.state_dict().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not missing, missing
    assert not unexpected, unexpected
    del started, state
    model = model.to(args.device)
    rgb, classes = drawn(args.batch_size, side)
    mean, std = (
        torch.tensor([255 * x for x in values], device=args.device).view(1, 3, 1, 1)
        for values in (preprocess.mean, preprocess.std)
    )

    def pixels() -> torch.Tensor:
        found = rgb.to(args.device, non_blocking=True).permute(0, 3, 1, 2).contiguous()
        return found.float().sub_(mean).div_(std)

    logits = said(model, pixels())
    model.train()
    optimizer: Any = create_optimizer_v2(
        model, opt="adamw", lr=RATE, weight_decay=DECAY, layer_decay=LAYER_DECAY
    )
    mixer: Any = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=CLASSES)
    criterion = SoftTargetCrossEntropy()
    average = ModelEmaV3(model, decay=EMA, use_warmup=True)
    taken = iter(range(10**6))

    def step() -> float:
        np.random.seed(next(taken))  # its mixes are drawn from the generator of all  # noqa: NPY002
        mixed, targets = mixer(pixels(), classes.to(args.device))
        with torch.autocast(args.device.type, torch.bfloat16, enabled=way.bf16):
            loss = criterion(model(mixed), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(model, step=0)
        return float(loss.detach())  # waits until all is done

    return Made(step, logits)


def said(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    network.eval()
    with torch.inference_mode():
        return network(pixels[:2]).float().cpu()  # type: ignore[no-any-return]


def make(name: str, args: argparse.Namespace) -> Made:
    return (ours if WAYS[name].ours else plain)(WAYS[name], args)


def peak_here(name: str, args: argparse.Namespace) -> float:
    """Return what a way takes at its peak, bytes beyond what the process had before."""
    if args.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        made = make(name, args)
        for _ in range(3):
            made.step()
        return float(torch.cuda.max_memory_allocated())
    if WAYS[name].lora:
        import peft  # noqa: F401 (its own modules are no memory of a step)
    before = resident()
    made = make(name, args)
    for _ in range(3):
        made.step()
    return resident() - before


def resident() -> float:
    """Return what this process has held at most, bytes; what rusage says is inherited at a start."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return 1024.0 * int(found[1]) if found else math.nan


def peak_of(name: str, args: argparse.Namespace) -> float:
    options = {"network": args.network, "batch-size": args.batch_size, "device": args.device}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    threads = ["--threads", str(torch.get_num_threads())]
    command = [sys.executable, __file__, "--peak-of", name, *words, *threads]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(names: list[str], args: argparse.Namespace) -> None:
    made = {name: make(name, args) for name in names}
    steps = {name: [made[name].step() for _ in range(2)] for name in names}  # what is slow once
    seconds = {name: list[float]() for name in names}
    for r in range(args.rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            started = args.clock()
            steps[name].append(made[name].step())
            seconds[name].append(args.clock() - started)
    first = next(iter(made.values())).logits
    apart = max(float((one.logits - first).abs().max()) for one in made.values())
    print(f"logits before the first step differ by at most {apart:.1e}, of up to {first.abs().max():.1e}")
    print(
        f"\n{args.network}; batches of {args.batch_size}, {args.rounds} rounds\n{'':30} {'images/s':>9} "
        f"{'ratio':>6} {'of rounds':>12} {'peak':>10} {'loss':>7}"
    )
    for name in names:
        base = "timm-bf16" if WAYS[name].bf16 else "timm"
        speed = args.batch_size / np.median(seconds[name])
        ratios = np.divide(seconds[base], seconds[name]) if base in seconds else np.full(1, np.nan)
        low, high = np.quantile(ratios, (0.25, 0.75))
        memory = peak_of(name, args) / 2**20
        print(
            f"{WAYS[name].title:30} {speed:9.2f} {np.median(ratios):6.2f} {low:5.2f} to {high:.2f}"
            f" {memory:6.0f} MiB {np.mean(steps[name]):7.3f}",
            flush=True,
        )


def machine(device: torch.device) -> str:
    text = "".join(file.read_text() for file in [Path("/proc/cpuinfo")] if file.exists())
    cpu = [*re.findall("model name.*: (.*)", text), platform.machine()][0]
    has = " ".join(sorted(set(re.findall(FAST, text))))
    gpu = f"; {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{cpu} ({has}), {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}{gpu}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="vit_tiny_patch16_224", help="of timm, without weights")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), help="without it all that can be")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="without it PyTorch's choice")
    parser.add_argument(
        "--processor-time", action="store_true", help="count the time of one thread, not the wall clock's"
    )
    parser.add_argument("--peak-of", choices=list(WAYS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    try:
        args.device = pick_device(args.device)
        args.clock = time.process_time if args.processor_time else time.perf_counter
        if args.processor_time and (torch.get_num_threads() > 1 or args.device.type != "cpu"):
            parser.error("--processor-time is for --threads 1 on a CPU")
        if args.peak_of:
            print(peak_here(args.peak_of, args))
            return
        print(f"{machine(args.device)}\ntorch {torch.__version__}, {torch.get_num_threads()} threads")
        names = args.ways or list(WAYS)
        if args.ways is None and choose("auto", args.device) != "bf16":
            names = [name for name in names if not WAYS[name].bf16]
        with contextlib.suppress(BrokenPipeError):
            measure(names, args)
    except PandermError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
