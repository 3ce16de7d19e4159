"""Several processes on one piece of work: who leads, who takes which group, and what they tell each other.

The processes are started by ``torchrun`` or ``accelerate launch``. They meet in a process group of torch
(gloo: no GPU is needed to talk); over it go a counter, how much is done, and a few small objects, but neither
vectors nor images. Nobody waits for a process that has died: a connection that closes is an error at once.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from panderm.errors import PandermError, UsageError

_Value = TypeVar("_Value")
# Reading a table of millions may take hours, and the others wait. One that died is noticed without this.
_PATIENCE = timedelta(days=30)
_MEETING = timedelta(minutes=5)
# Seconds that the others have to come out of the batch they are in, after one has failed.
_GRACE = 60.0
_POLL = 0.05
_LEAVE = 10.0  # seconds that the lead has to say why it ends
_FROM_LEAD = 0  # tags of what goes between two processes: reports have the number of their work


class Elsewhere(PandermError):  # noqa: N818
    """Another process of this run failed, and has said why."""


class Stopped(PandermError):  # noqa: N818
    """Stopped, with Ctrl-C or by its launcher: a process that listens to nobody any more."""

    exit_code = 130  # as of the process that was stopped: a terminal stops all, and one is heard first


def as_json(value: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()


class Ranks:
    """The processes of one run, as this one of them sees them.

    Attributes:
        rank: this process's number, from 0.
        world: how many processes there are.
        local: its number on this machine, which is that of its GPU.
    """

    _joined: ClassVar[Ranks | None] = None

    def __init__(
        self, rank: int = 0, world: int = 1, local: int = 0, store: Any = None, group: Any = None
    ) -> None:
        self.rank = rank
        self.world = world
        self.local = local
        self._store = store
        self._group = group  # None: torch's own
        self._work = 0  # pieces of work shared out so far: each has its own counters
        self._next = 0
        self._done = 0
        self._reports: dict[int, Any] = {}
        self._failure: PandermError | None = None
        self._reported = False
        self._departed: set[int] = set()  # who listens no more
        self._listeners: list[threading.Thread] = []

    @classmethod
    def join(cls) -> Ranks:
        """Meet the others that ``torchrun`` or ``accelerate launch`` started; alone where there are none.

        Asked again, the same answer is given: a process meets the others once.

        Raises:
            UsageError: the others cannot be reached.
        """
        if cls._joined is None:
            cls._joined = cls._meet() if int(os.environ.get("WORLD_SIZE") or 1) > 1 else cls()
        return cls._joined

    @classmethod
    def _meet(cls) -> Ranks:
        # Its warnings of connections that close come with pages of addresses; what they mean, we say.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        dist = _dist()

        rank, world = int(os.environ.get("RANK", 0)), int(os.environ["WORLD_SIZE"])
        try:
            if dist.is_initialized():  # by a script that uses processes of its own
                group = dist.new_group(backend="gloo", timeout=_PATIENCE)
                store = dist.distributed_c10d._get_default_store()
            else:
                group = None
                store, rank, world = next(dist.rendezvous("env://", rank, world, timeout=_MEETING))
                dist.init_process_group(
                    "gloo",
                    store=dist.PrefixStore("panderm/group", store),
                    rank=rank,
                    world_size=world,
                    timeout=_PATIENCE,
                )
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(
                "the processes of a run must reach each other.",
                f"process {rank} of {world}: {str(error).splitlines()[0]}",
                "start them with torchrun or accelerate launch, which say where they meet",
            ) from None
        store = dist.PrefixStore("panderm/run", store)
        joined = cls(rank, world, int(os.environ.get("LOCAL_RANK", rank)), store, group)
        if group is None:
            atexit.register(joined._part)
        return joined

    def _part(self) -> None:
        """Close the connections once the lead has spoken: a launcher ends all when one ends with an error."""
        until = time.monotonic() + _LEAVE
        with contextlib.suppress(RuntimeError):
            self._store.add("left", int(self.lead))
            while not self._store.add("left", 0) and time.monotonic() < until:
                time.sleep(_POLL)
        if _dist().is_initialized():
            _dist().destroy_process_group()
        for listener in self._listeners:  # they end with the others, and must before the interpreter does
            listener.join(timeout=max(0.0, until - time.monotonic()))

    @property
    def lead(self) -> bool:
        """Whether this is the process that speaks to the user, reads the table and finishes the folder."""
        return self.rank == 0

    def device(self, asked: str) -> str:
        """Return the device of this process: of several GPUs each process has its own."""
        if self.world == 1 or asked not in ("auto", "cuda"):
            return asked
        import torch

        return f"cuda:{self.local % torch.cuda.device_count()}" if torch.cuda.is_available() else asked

    def hush(self) -> None:
        """Let only the lead be heard: what another process has to say, it tells the lead."""
        if not self.lead:
            sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115

    def agree(
        self,
        make: Callable[[], _Value],
        *,
        pack: Callable[[_Value], bytes] = as_json,
        unpack: Callable[[bytes], _Value] = json.loads,
    ) -> _Value:
        """Return in every process what the lead makes; what hinders the lead is raised in all.

        Args:
            make: called in the lead only.
            pack: turns what was made to bytes; by default JSON.
            unpack: the way back.
        """
        if self.world == 1:
            return make()
        if not self.lead:
            return unpack(self._hear())
        try:
            made = make()
            packed = pack(made)
        except PandermError as error:
            self._say(error)
            raise
        self._say(packed)
        return made

    @contextlib.contextmanager
    def share(self) -> Iterator[None]:
        """Share a piece of work out, by :meth:`take`; what hinders one process ends it for all, one way."""
        self._work += 1
        self._next = self._done = 0
        if self.world == 1:
            yield
            return
        if self.lead:
            self._reports, self._failure = {}, None
            for other in range(1, self.world):
                listener = threading.Thread(target=self._listen, args=(other,), daemon=True)
                listener.start()
                self._listeners.append(listener)
        self._reported = False
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            told = _told(error, self.rank, self.world)
            if self.lead:
                self._end_for_all(told)
                raise
            self._report(told)
            if isinstance(error, Exception):
                self._hear()  # raises what the lead ends with; Ctrl-C waits for nobody
            raise

    def take(self) -> int:
        """Return the next number, from 0: each number goes to one process only."""
        if self.world == 1:
            self._next += 1
            return self._next - 1
        return self._count("taken", 1) - 1

    def tell(self, n: int) -> None:
        """Count ``n`` more as done."""
        self._done += n
        if self.world > 1:
            self._count("done", n)

    def told(self) -> int:
        """Return how many all processes together have done."""
        return self._done if self.world == 1 else self._count("done", 0)

    def check(self) -> None:
        """Raise where another process has failed.

        Raises:
            PandermError: in the lead, what the other said; elsewhere :class:`Elsewhere`.
        """
        if self.lead and self._failure is not None:
            raise self._failure
        if self.world > 1 and not self.lead and self._count("failed", 0):
            raise Elsewhere("another process of the run has failed.")

    def gather(self, mine: Any, *, waiting: Callable[[], None] = lambda: None) -> list[Any]:
        """Return in the lead what every process reports, in their order; elsewhere nothing.

        Args:
            mine: this process's report, JSON-able.
            waiting: called now and then while the lead waits for the others.
        """
        if self.world == 1:
            return [mine]
        if not self.lead:
            self._report(mine)
            return []
        while len(self._reports) < self.world - 1:
            self.check()
            waiting()
            time.sleep(_POLL)
        self.check()
        return [mine, *(self._reports[other] for other in range(1, self.world))]

    def _count(self, what: str, n: int) -> int:
        """Add to a counter that all processes share."""
        try:
            return int(self._store.add(f"{what}/{self._work}", n))
        except RuntimeError:
            raise PandermError(
                _GONE,
                "the launcher, or the first process, is gone: it kept the count of what is done",
                _AGAIN,
            ) from None

    # What goes over the wire: 0 and JSON or other bytes, or 1 and an error.

    def _say(self, value: bytes | PandermError) -> None:
        failed, body = _packed(value)
        for other in set(range(1, self.world)) - self._departed:
            # One by one, so that the dead keep nothing from the living.
            with contextlib.suppress(RuntimeError):
                self._send(failed, body, to=other, tag=_FROM_LEAD)

    def _hear(self) -> bytes:
        try:
            failed, body = self._receive(of=0, tag=_FROM_LEAD)
        except RuntimeError:
            raise _gone(0, self.world) from None
        if failed:
            raise _rebuilt(json.loads(body))
        return body

    def _report(self, value: Any) -> None:
        if self._reported:
            return
        self._reported = True
        failed, body = _packed(value if isinstance(value, PandermError) else as_json(value))
        try:
            self._send(failed, body, to=0, tag=self._work)
        except RuntimeError:
            raise _gone(0, self.world) from None

    def _listen(self, other: int) -> None:
        """Wait for another process's report; that its connection closes is a report as well."""
        try:
            failed, body = self._receive(of=other, tag=self._work)
        except (RuntimeError, ValueError):  # the connection, or the group itself, has been closed
            self._failure = self._failure or _gone(other, self.world)
            self._departed.add(other)
            self._reports[other] = None
            return
        value = json.loads(body)
        if failed and value["type"] == Stopped.__name__:
            self._departed.add(other)
        if failed and value["type"] != Elsewhere.__name__:
            self._failure = self._failure or _rebuilt(value)
        self._reports[other] = value

    def _end_for_all(self, error: PandermError) -> None:
        with contextlib.suppress(RuntimeError):
            self._store.add(f"failed/{self._work}", 1)
            until = time.monotonic() + _GRACE
            while len(self._reports) < self.world - 1 and time.monotonic() < until:
                time.sleep(_POLL)
            self._say(error)

    def _send(self, failed: int, body: bytes, *, to: int, tag: int) -> None:
        import torch

        _dist().send(torch.tensor([failed, len(body)]), dst=to, group=self._group, tag=tag)
        if body:
            content = torch.frombuffer(bytearray(body), dtype=torch.uint8)
            _dist().send(content, dst=to, group=self._group, tag=tag)

    def _receive(self, *, of: int, tag: int) -> tuple[int, bytes]:
        import torch

        head = torch.zeros(2, dtype=torch.int64)
        _dist().recv(head, src=of, group=self._group, tag=tag)
        failed, length = head.tolist()
        body = torch.zeros(length, dtype=torch.uint8)
        if length:
            _dist().recv(body, src=of, group=self._group, tag=tag)
        return failed, body.numpy().tobytes()


def require_alone(verb: str, *, hush: bool = False) -> None:
    """Raise :class:`UsageError` where several processes were started for what one does.

    Args:
        verb: what it is.
        hush: let only the first process say so.
    """
    world = int(os.environ.get("WORLD_SIZE") or 1)
    if world > 1:
        if hush:
            Ranks(int(os.environ.get("RANK") or 0), world).hush()
        raise UsageError(
            f"panderm {verb} must be one process.",
            f"{world} were started",
            f"several processes share embed, pretrain and finetune: start those so, and panderm {verb} alone",
        )


_GONE = "every process of a run must live to its end."
_AGAIN = "run the same command again: it goes on with what is left, with any number of processes"


def _gone(rank: int, world: int) -> PandermError:
    return PandermError(
        _GONE,
        f"process {rank} of {world} is gone: killed, or out of memory",
        _AGAIN,
    )


def _told(error: BaseException, rank: int, world: int) -> PandermError:
    """Put what hinders a process into words for another."""
    if isinstance(error, PandermError):
        return error
    stopped = isinstance(error, KeyboardInterrupt)
    first = (str(error).splitlines() or [""])[0]
    what = "was stopped" if stopped else f"{type(error).__name__}: {first}"
    kind = Stopped if stopped else PandermError
    return kind("every process of a run must reach its end.", f"process {rank} of {world}: {what}", _AGAIN)


def _packed(value: bytes | PandermError) -> tuple[int, bytes]:
    if isinstance(value, bytes):
        return 0, value
    parts = {"type": type(value).__name__, "must": value.must, "found": value.found, "hint": value.hint}
    return 1, as_json(parts)


def _rebuilt(parts: dict[str, Any]) -> PandermError:
    # An ImageError and the like are made otherwise: of those only the name and the words are kept.
    ours = [kind for kind in _kinds(PandermError) if kind.__module__ == PandermError.__module__]
    other = Stopped if parts["type"] == Stopped.__name__ else type(parts["type"], (PandermError,), {})
    kind: type[PandermError] = next((kind for kind in ours if kind.__name__ == parts["type"]), other)
    return kind(parts["must"], parts["found"], parts["hint"])


def _kinds(kind: type[PandermError]) -> Iterator[type[PandermError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _kinds(one)


def _dist() -> Any:
    """Torch's processes; not before there are several."""
    import torch.distributed

    return torch.distributed
