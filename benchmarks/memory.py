"""Peak memory and seconds of loading a Large's weights, file by file, each in a process of its own (Linux).

    python benchmarks/memory.py [--folder FOLDER]

Weights are drawn and written in every layout a file comes in (9 GB, removed afterwards). Peaks are the
kernel's, mapped pages included, counted from after the imports; files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1 << 20
VIT = "vit_large_patch16_224"


def write(folder: Path) -> None:
    """Draw the weights and write them in every layout."""
    import timm
    import torch
    from safetensors.torch import save_file

    from panderm.models.cards import KNOWN
    from panderm.models.network import build, draw_weights

    card = next(card for card in KNOWN if card.name == "panderm-large")
    state = draw_weights({key: value.shape for key, value in build(card, None).state_dict().items()}, 0)
    save_file(state, folder / "large.safetensors")
    torch.save(state, folder / "large.pth")
    torch.save({"model": state, "epoch": 499, "args": argparse.Namespace(lr=1e-4)}, folder / "wrapped.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({key: value.half() for key, value in state.items()}, folder / "half.pth")
    moments = {
        i: {"step": torch.tensor(1.0), "exp_avg": value.clone(), "exp_avg_sq": value.clone()}
        for i, value in enumerate(state.values())
    }
    optimizer = {"state": moments, "param_groups": [{"lr": 1e-4, "params": list(moments)}]}
    torch.save({"model": state, "optimizer": optimizer, "epoch": "best"}, folder / "checkpoint-best.pth")
    save_file(timm.create_model(VIT, num_classes=0).state_dict(), folder / "timm.safetensors")


def status(key: str) -> float:
    """Return a line of the kernel's account of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def measure(job: str, path: Path) -> dict[str, float]:
    """Load one file here."""
    import panderm
    import panderm.models.load
    from panderm.weights.account import Account
    from panderm.weights.checkpoint import read_state

    jobs = {
        "outline": lambda: read_state(path, Account(), data=False),
        "read": lambda: read_state(path, Account()),
        "panderm-large": lambda: panderm.load_encoder("panderm-large", weights=path, device="cpu"),
        f"timm:{VIT}": lambda: panderm.load_encoder(f"timm:{VIT}", weights=path, device="cpu"),
    }
    Path("/proc/self/clear_refs").write_text("5")
    start, clock = status("VmRSS"), time.perf_counter()
    kept = jobs[job]()
    seconds = time.perf_counter() - clock
    assert kept
    return {"baseline": start, "grown": status("VmHWM") - start, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the files are written, or lie from another time")
    parser.add_argument("--one", nargs=2, metavar=("JOB", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], Path(args.one[1]))))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as drawn:
        folder = args.folder or Path(drawn)
        if not (folder / "timm.safetensors").exists():
            write(folder)
        layouts = ("large.safetensors", "large.pth", "wrapped.pth", "legacy.pth", "checkpoint-best.pth")
        rows = [("outline", name) for name in ("large.safetensors", "large.pth", "checkpoint-best.pth")]
        rows += [("read", name) for name in layouts]
        rows += [("panderm-large", name) for name in (*layouts, "half.pth")]
        rows += [(f"timm:{VIT}", "timm.safetensors")]
        print("| what | file | MiB of file | MiB before | MiB more at the peak | of the file | seconds |")
        print("|---|---|---|---|---|---|---|")
        for job, name in rows:
            command = [sys.executable, __file__, "--one", job, str(folder / name)]
            seen = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            size = (folder / name).stat().st_size / MIB
            print(
                f"| {job} | {name} | {size:,.0f} | {seen['baseline']:,.0f} | {seen['grown']:,.0f} "
                f"| {seen['grown'] / size:.2f} | {seen['seconds']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
