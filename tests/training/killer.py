"""Starts runs in processes of their own and kills them; Python and torch are started once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from panderm.training.long.journal import read_journal

_CODE = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {here!r})
import {module} as tests

for line in sys.stdin:
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        try:
            job = json.loads(line)
            tests.job(Path(job["folder"]), job["pause"], job["minutes"])
            os._exit(0)
        except KeyboardInterrupt:
            os._exit(130)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(99)
    print(child, flush=True)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
"""


class Killer:
    """Forks runs of a test module's ``job(folder, pause, minutes)``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(
        self,
        folder: Path,
        *,
        lines: int | None = None,
        delay: float = 0.0,
        number: int = signal.SIGKILL,
        minutes: float = 0.0,
    ) -> int:
        """Start a run, end it some time after so many steps in its journal, and return how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"folder": str(folder), "pause": 0.0 if lines is None else 0.01, "minutes": minutes}
        print(json.dumps(job), file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        if lines is not None:
            until = time.monotonic() + 60
            while _steps(folder / "journal.jsonl") < lines and time.monotonic() < until:
                time.sleep(0.002)
            time.sleep(delay)
            os.kill(child, number)
        return int(self._process.stdout.readline())


def _steps(path: Path) -> int:
    return sum("loss" in line for line in read_journal(path)) if path.exists() else 0


@contextlib.contextmanager
def started(module: str, folder: Path) -> Iterator[Killer]:
    """Start the process that forks."""
    file = folder / "killer_of_runs.py"
    file.write_text(_CODE.format(here=str(Path(__file__).parent), module=module))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield Killer(process)
        assert process.stdin is not None
        process.stdin.close()
