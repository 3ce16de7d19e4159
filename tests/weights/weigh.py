"""Weigh what a call holds at its highest, in a process of its own: for tests of memory (Linux).

``weigh`` starts this file; every job runs in a fork of it, so that what one job leaves behind cannot serve
the next. The peak is the kernel's (VmHWM, mapped pages included), counted from the job's own start.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

HANGS = 200  # seconds until a job is taken to hang, not to be slow


def weigh(jobs: list[tuple[str, Path]], limit: int | None = None) -> list[dict[str, Any]]:
    """Run jobs, ``(name of a function below, file)``; return what each said, and its growth in bytes.

    Args:
        jobs: what to do with which file.
        limit: bytes of address space that a job may ask for; beyond it, it gets a MemoryError.
    """
    words = json.dumps({"jobs": [(name, str(path)) for name, path in jobs], "limit": limit})
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # What is let go goes back to the system: otherwise what an earlier job held may count for a later one.
    environment["MALLOC_MMAP_THRESHOLD_"] = str(1 << 16)
    done = subprocess.run(
        [sys.executable, __file__],
        input=words,
        capture_output=True,
        text=True,
        timeout=HANGS,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def read(path: Path) -> Any:
    from panderm.weights.account import Account
    from panderm.weights.checkpoint import read_state

    return read_state(path, Account())


def outline(path: Path) -> Any:
    from panderm.weights.account import Account
    from panderm.weights.checkpoint import read_state

    return read_state(path, Account(), data=False)


def header(path: Path) -> Any:
    from panderm.weights.checkpoint import read_header

    return read_header(path)


def match(path: Path) -> Any:
    """Read a file and fit it to a network of float32 that asks for exactly these names."""
    import torch

    from panderm.weights.account import Account, match

    state = read(path)
    wanted = {k: torch.empty(v.shape, device="meta") for k, v in state.items()}
    return match(state, wanted, Account(), path=path, name="a network", hint="")


def timm_network(path: Path) -> Any:
    """Build a network of timm's, which draws its numbers, and read a file into it."""
    import timm

    from panderm.models.network import emptied
    from panderm.weights.account import Account, match

    network = emptied(timm.create_model("vit_small_patch16_224", num_classes=0))
    state = match(read(path), network.state_dict(), Account(), path=path, name="a network", hint="")
    network.load_state_dict(state, strict=True, assign=True)
    return network


def load(path: Path) -> Any:
    """Load timm's small ViT from the front door."""
    import panderm

    return panderm.load_encoder("timm:vit_small_patch16_224", weights=path, device="cpu")


JOBS = {f.__name__: f for f in (read, outline, header, match, timm_network, load)}


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def _warm() -> None:
    """Bring in the libraries' code, which a fork leaves out until it is used: it is no weights."""
    import timm
    import torch

    with torch.no_grad():
        timm.create_model("test_vit")(torch.zeros(1, 3, 160, 160))


def _one(name: str, path: Path, limit: int | None) -> dict[str, Any]:
    from panderm.errors import PandermError

    if limit is not None:
        most = _status("VmSize") + limit
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if name == "load":
        _warm()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    start = _status("VmRSS")
    try:
        kept = JOBS[name](path)
        said = f"{type(kept).__name__} kept"
    except PandermError as error:
        said = str(error)
    return {"said": said, "grown": _status("VmHWM") - start}


def main() -> None:
    told = json.load(sys.stdin)
    # Imported before the first fork: no job pays for it.
    import panderm.weights.checkpoint

    if {"timm_network", "load"} & {name for name, _ in told["jobs"]}:
        import panderm.models.load
    assert panderm.weights.checkpoint.__name__
    for name, path in told["jobs"]:
        sys.stdout.flush()
        if child := os.fork():
            if os.waitpid(child, 0)[1]:
                raise SystemExit(f"{name} of {path} failed")
        else:
            sys.stdout.write(json.dumps(_one(name, Path(path), told["limit"])) + "\n")
            sys.stdout.flush()
            os._exit(0)


if __name__ == "__main__":
    main()
