"""Ray itself: started for one run and ended with it, or joined where a cluster runs already."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from panderm.errors import PandermError, UsageError
from panderm.storage import remove_leftovers

# What Ray reads from the environment when it starts: no report of its use, and no word that is not ours.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
# Of an instance of our own: it listens to this machine only, and to nobody without the token of this run.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
_FOLDER = "panderm"
_PATIENCE = 10.0  # seconds for a cluster to answer
# Decoded images that wait for an actor, all in all. They lie in shared memory.
_STORE_BYTES = 2 << 30


def require_ray() -> Any:
    """Return Ray's module.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(
            "--engine ray needs Ray.",
            str(error).splitlines()[0],
            "install it with: pip install 'panderm[ray]'",
        ) from None
    return ray


@contextlib.contextmanager
def session(address: str | None, *, cpus: int | None = None) -> Iterator[Any]:
    """Yield Ray, started here or joined at an address; one that this process has already is left running.

    Args:
        address: of a cluster; None to start Ray on this machine, which nothing outside it can reach.
        cpus: that Ray may use of this machine; by default all.

    Raises:
        UsageError: not installed, or no cluster at that address.
    """
    started = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    with _environment(
        _QUIET | ({} if address or started else {**_ALONE, "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    ):
        ray = require_ray()
        if not started:
            _read_environment_again(alone=not address)
        with warnings.catch_warnings(), _hushed():
            # Ray's complaints about itself are not for our users.
            warnings.filterwarnings("ignore", module=r"ray\b")
            warnings.filterwarnings("ignore", category=ResourceWarning)
            if started:
                yield ray
                return
            temporary = None if address else _folder()
            try:
                _start(ray, address, temporary, cpus)
                with _ended_by_sigterm():
                    yield ray
            finally:
                ray.shutdown()
                if temporary is not None:
                    shutil.rmtree(temporary, ignore_errors=True)


def _start(ray: Any, address: str | None, temporary: Path | None, cpus: int | None) -> None:
    with _silence():
        _init(ray, address, temporary, cpus)


def _init(ray: Any, address: str | None, temporary: Path | None, cpus: int | None) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": "error"}
    if address:
        _require_answer(address)
        try:
            ray.init(address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _no_cluster(address, error) from None
        return
    try:
        ray.init(
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=_store_bytes(),
            _temp_dir=str(temporary),
            **quiet,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise PandermError(
            "Ray must start on this machine.", (str(error).splitlines() or [type(error).__name__])[0]
        ) from None


def _require_answer(address: str) -> None:
    """Raise at once where nobody listens: Ray would try for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not host or not port.isdigit():
        return  # auto, and what else Ray may know
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> UsageError:
    return UsageError(
        "--ray-address must be that of a Ray cluster.",
        f"{address}: {(str(error).splitlines() or [type(error).__name__])[0]}",
        "ray status says whether it is up; leave --ray-address out to start Ray on this machine",
    )


def _store_bytes() -> int:
    """Return how much shared memory Ray may take: never more than half of what is free."""
    shared = Path("/dev/shm")
    free = shutil.disk_usage(shared).free if shared.is_dir() else 2 * _STORE_BYTES
    return max(100 << 20, min(_STORE_BYTES, free // 2))


def _folder() -> Path:
    """Make a folder for Ray's sockets and logs; what runs that were killed have left goes first."""
    # Of a short name: a socket must be named in 107 letters.
    place = Path("/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir())
    with contextlib.suppress(OSError):
        remove_leftovers(place / _FOLDER)
    return Path(tempfile.mkdtemp(prefix=f".{_FOLDER}.{os.getpid()}.", suffix=".tmp", dir=place))


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have a scheduler's polite end be one: Ray would abort."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """Set what Ray reads from the environment, where the user has not; put it back in the end."""
    mine = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


def _read_environment_again(*, alone: bool) -> None:
    """Have Ray forget what it read of the environment when it was imported, or in an earlier run.

    Its core keeps the token and mode of the first run for good, and a second one could not start: its own
    processes would ask for the new token. Whether it listens to this machine only is settled at its import.

    Args:
        alone: whether it is to listen to this machine only.
    """
    with contextlib.suppress(ImportError, AttributeError):  # older versions know no token
        core: Any = importlib.import_module("ray._raylet")
        core.Config.initialize("")
        core.AuthenticationTokenLoader.instance().reset_cache()
    with contextlib.suppress(ImportError):
        constants: Any = importlib.import_module("ray._private.ray_constants")
        constants.ENABLE_RAY_CLUSTER = not alone


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep off the terminal what Ray's core writes there by itself as it starts; what fails is raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _Deaf:
    """Standard output, deaf to Ray's threads: they report there on every process that was repeated."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep Ray's loggers and threads silent."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(cast("Any", _Deaf(sys.stdout))):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
