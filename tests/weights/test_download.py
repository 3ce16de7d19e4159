"""Downloads from a server that breaks off, lies, and serves the wrong file: whole and checked, or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from panderm.errors import PandermError, WeightsError
from panderm.provenance import version
from panderm.weights import download, fetch, hosts
from panderm.weights.cache import Held, Source, alone, folder_of, held, partial_of, read_record
from panderm.weights.download import pull

CONTENT = bytes(range(256)) * 4096  # 1 MiB
OTHER = CONTENT[::-1]  # as long
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER_SHA256 = hashlib.sha256(OTHER).hexdigest()
HALF = len(CONTENT) // 2
LICENCE, CITATION = "CC BY-NC 4.0", "Yan S. et al. 2025"
NO_WAITS = (0.0,) * 5
MONDAY, TUESDAY = "Mon, 06 Jan 2025 10:00:00 GMT", "Tue, 07 Jan 2025 10:00:00 GMT"


class Request(NamedTuple):
    """What was asked, and how many bytes of the body went out."""

    method: str
    path: str
    headers: dict[str, str]
    sent: list[int]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass
class Plan:
    """How the server answers for one path."""

    content: bytes = CONTENT
    cuts: list[int] = field(default_factory=list)  # bytes after which each next answer breaks off
    statuses: list[int] = field(default_factory=list)  # of the next answers, before it serves
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    honours_range: bool = True
    honours_if_range: bool = True
    length: int | None = None  # what it says, where that is not the truth
    says_length: bool = True
    chunked: bool = False
    reset: bool = False  # break off rudely
    kind: str = "application/octet-stream"
    answer: Callable[[BaseHTTPRequestHandler], None] | None = None
    before: Callable[[], object] | None = None  # called before the body
    after: Callable[[int], object] | None = None  # called with the bytes sent, before the connection ends


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plans: dict[str, Plan] = {}
        self.requests: list[Request] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ranges(self) -> list[str | None]:
        return [request.range for request in self.requests if request.method == "GET"]

    @property
    def sent(self) -> int:
        return sum(sum(request.sent) for request in self.requests)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.close_connection = True
        seen = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, [])
        self.server.requests.append(seen)
        plan = self.server.plans.get(self.path)
        if plan is None:
            self.plain(404)
        elif plan.statuses:
            self.plain(plan.statuses.pop(0), plan.headers)
        elif plan.answer:
            plan.answer(self)
        else:
            self.serve(plan, seen)

    def plain(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def serve(self, plan: Plan, seen: Request) -> None:
        begin, status, headers = 0, 200, dict(plan.headers)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, headers.get("ETag"), headers.get("Last-Modified"))
        if asked and plan.honours_range and (same or not plan.honours_if_range):
            begin, status = int(asked[1]), 206
            if begin >= len(plan.content):
                self.plain(416, {"Content-Range": f"bytes */{len(plan.content)}"})
                return
            headers["Content-Range"] = f"bytes {begin}-{len(plan.content) - 1}/{len(plan.content)}"
        body = plan.content[begin:]
        self.send_response(status)
        self.send_header("Content-Type", plan.kind)
        if plan.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif plan.says_length:
            self.send_header("Content-Length", str(len(body) if plan.length is None else plan.length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if plan.before:
            plan.before()
        cut = plan.cuts.pop(0) if plan.cuts else None
        now = body if cut is None else body[:cut]
        self.wfile.write(b"%x\r\n%s\r\n" % (len(now), now) if plan.chunked else now)
        seen.sent.append(len(now))
        if plan.after:
            plan.after(len(now))
        if cut is None and plan.chunked:
            self.wfile.write(b"0\r\n\r\n")
        if cut is not None and plan.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no proxy, nobody signed in at the Hub but a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_test")
    return tmp_path / "panderm"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def source_of(server: Server, path: str = "/eye.pth", **known: Any) -> Source:
    return Source(kind="url", where=server.address + path, file="eye.pth", **known)


def get(source: Source, name: str = "eye", **options: Any) -> Held:
    given: dict[str, Any] = {"accept_licence": True, "progress": False, "waits": NO_WAITS}
    return pull(name, [source], licence=LICENCE, citation=CITATION, **(given | options))


def words(action: Callable[..., object], *args: object, **options: object) -> str:
    with pytest.raises(PandermError) as caught:
        action(*args, **options)
    return f"{type(caught.value).__name__}: {caught.value}"


def part(name: str = "eye") -> Path:
    return partial_of(name) / "eye.pth.part"


def leave_half(server: Server, **plan: Any) -> Plan:
    """Have a download stop halfway, as if the process had ended there."""
    server.plans["/eye.pth"] = Plan(**{"cuts": [HALF], **plan})
    with pytest.raises(WeightsError, match="must come to its end"):
        get(source_of(server), waits=())
    assert part().stat().st_size == HALF
    server.requests.clear()
    return server.plans["/eye.pth"]


def nothing_is_there(name: str = "eye") -> bool:
    return held(name) is None and read_record(name) is None and not (folder_of(name) / "eye.pth").exists()


# One file, whole


def test_a_file_comes_and_is_recorded(server: Server) -> None:
    server.plans["/eye.pth"] = Plan()
    found = get(source_of(server))
    assert found.path.read_bytes() == CONTENT
    assert found == held("eye")
    (entry,) = found.record.files
    assert (entry.size, entry.sha256, entry.source) == (len(CONTENT), SHA256, source_of(server))
    assert (found.record.name, found.record.licence) == ("eye", LICENCE)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", entry.at)
    assert not partial_of("eye").exists()
    assert server.requests[0].headers["user-agent"] == f"panderm/{version()}"
    assert sorted(path.name for path in folder_of("eye").iterdir()) == ["eye.pth", "pulled.json"]


def test_what_is_held_needs_no_request(server: Server) -> None:
    server.plans["/eye.pth"] = Plan()
    first = get(source_of(server))
    server.requests.clear()
    lock = folder_of("eye").with_name(".eye.lock")
    lock.unlink()
    second = get(source_of(server), accept_licence=False)
    assert second == first
    assert server.requests == []
    assert not lock.exists(), "a cache others keep for all is only read"


def test_several_files_come_together_or_not_at_all(server: Server) -> None:
    server.plans["/eye.pth"] = Plan()
    sources = [source_of(server), Source(kind="url", where=f"{server.address}/b", file="sub/b.json")]
    both = {"licence": LICENCE, "citation": CITATION, "accept_licence": True, "progress": False}
    assert "answered 404" in words(pull, "eye", sources, **both)
    assert nothing_is_there()
    server.plans["/b"] = Plan(content=b"{}")
    found = pull("eye", sources, **both)  # type: ignore[arg-type]
    assert [path.read_bytes() for path in found.paths] == [CONTENT, b"{}"]
    assert [request.path for request in server.requests] == ["/eye.pth", "/b", "/b"]
    found.paths[1].unlink()
    assert held("eye") is None
    found.path.write_bytes(OTHER)
    assert f"{found.path}: sha256 {SHA256[:12]}… was recorded" in words(pull, "eye", sources, **both)
    found.path.write_bytes(CONTENT)
    assert pull("eye", sources, **both) == found  # type: ignore[arg-type]
    assert [request.path for request in server.requests][3:] == ["/b"]


def test_a_file_the_card_no_longer_names_stays_recorded(server: Server) -> None:
    server.plans["/eye.pth"] = Plan()
    first = get(source_of(server))
    server.plans["/new"] = Plan(content=OTHER)
    second = get(Source(kind="url", where=f"{server.address}/new", file="new.pth"))
    assert second.path.read_bytes() == OTHER
    assert second.record.files[1:] == first.record.files
    first.path.write_bytes(OTHER)
    assert "sha256" in words(get, source_of(server))


def test_files_must_have_names_of_their_own(server: Server) -> None:
    for sources, found in (([], "none"), ([source_of(server)] * 2, "eye.pth, eye.pth")):
        assert words(pull, "eye", sources, licence=LICENCE, citation=CITATION) == (
            "UsageError: eye must have files to download, each under its own name.\n"
            f"  found {found}\n"
            "  hint: name a local file with --weights FILE"
        )


def test_addresses_in_plain_text(server: Server) -> None:
    drive = Source(kind="drive", where="1SwEzaOlFV_gBKf2", file="a.pth")
    assert [one.location for one in (drive, source_of(server))] == [
        "https://drive.google.com/file/d/1SwEzaOlFV_gBKf2/view",
        f"{server.address}/eye.pth",
    ]


@pytest.mark.parametrize("plan", [{"chunked": True}, {"says_length": False}, {"honours_range": False}])
def test_a_server_may_say_little(server: Server, plan: dict[str, Any]) -> None:
    server.plans["/eye.pth"] = Plan(headers={}, **plan)
    assert get(source_of(server)).path.read_bytes() == CONTENT


def test_a_bar_counts_bytes(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("panderm.progress.tqdm", _at_once)
    leave_half(server)
    get(source_of(server), progress=True)
    said = capsys.readouterr().err
    assert "downloading eye.pth: 100%" in said
    assert "1.05M/1.05M" in said
    assert "B/s" in said
    assert re.search(r"downloading eye.pth: +50%", said), "what was there already counts"


def _at_once(**options: Any) -> Any:
    from tqdm import tqdm

    return tqdm(**(options | {"delay": 0, "mininterval": 0, "miniters": 1}))


# The licence


def test_the_licence_comes_before_any_request(server: Server) -> None:
    server.plans["/eye.pth"] = Plan()
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        assert server.requests == []
        return False

    for ask in (None, no):
        assert words(get, source_of(server), accept_licence=False, ask=ask) == (
            "UsageError: the licence of eye must be accepted before its weights are downloaded.\n"
            f"  licence: {LICENCE}\n"
            f"  please cite: {CITATION}\n"
            "  hint: to accept it, add --accept-licence"
        )
    assert server.requests == []
    assert asked == [
        f"The weights of eye come under this licence: {LICENCE}\nPlease cite: {CITATION}\nAccept it?"
    ]


def test_the_licence_is_asked_for_once(server: Server) -> None:
    asked: list[str] = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    def never(question: str) -> bool:
        raise AssertionError(question)

    server.plans["/eye.pth"] = Plan(cuts=[HALF])
    with pytest.raises(WeightsError):
        get(source_of(server), accept_licence=False, ask=yes, waits=())
    found = get(source_of(server), accept_licence=False, ask=never)  # said before the break
    found.path.unlink()
    get(source_of(server), accept_licence=False, ask=never)  # said at the first download
    assert len(asked) == 1
    found.path.unlink()
    server.plans["/eye.pth"].cuts = [HALF]
    options = {"citation": CITATION, "ask": yes, "progress": False}
    for licence in ("another licence", "a third licence"):  # each in its turn, held or on its way
        with contextlib.suppress(WeightsError):
            pull("eye", [source_of(server)], licence=licence, waits=(), **options)  # type: ignore[arg-type]
    assert len(asked) == 3
    record = read_record("eye")
    assert record is not None
    assert record.licence == "a third licence"


# Breaks


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("known", [{"ETag": '"one"'}, {"Last-Modified": MONDAY}, {}])
def test_a_broken_download_goes_on_where_it_stopped(
    server: Server, reset: bool, known: dict[str, str]
) -> None:
    # A rude break may lose what is still in the pipe: so short that it lies at the client.
    cuts = [1000, 2000, 3000] if reset else [HALF, 1000, 100_000]
    server.plans["/eye.pth"] = Plan(cuts=list(cuts), headers=known, reset=reset)
    assert get(source_of(server)).path.read_bytes() == CONTENT
    if not reset:
        assert server.ranges == [None, *(f"bytes={sum(cuts[:n])}-" for n in (1, 2, 3))]
        assert server.sent == len(CONTENT), "no byte was sent twice"


def test_breaks_that_bring_something_are_forgiven_without_end(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(cuts=[100_000] * 10)
    waited: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "_sleep", waited.append)
        get(source_of(server), waits=(1.0, 2.0))
    assert waited == [1.0] * 10
    assert server.sent == len(CONTENT)


def test_breaks_that_bring_nothing_come_to_an_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(fetch, "_sleep", waited.append)
    server.plans["/eye.pth"] = Plan(cuts=[HALF] + [0] * 99)
    assert words(get, source_of(server), waits=(1.0, 2.0, 4.0)) == (
        "WeightsError: the download of eye must come to its end.\n"
        f"  {server.address}/eye.pth: 524.3 kB of 1.0 MB have arrived, "
        "then 4 attempts in a row brought nothing more: the connection broke off\n"
        "  hint: run the same command again: it goes on where this one stopped; "
        "or fetch the file in a browser and name it with --weights FILE"
    )
    assert waited == [1.0, 2.0, 4.0]
    assert nothing_is_there()
    assert part().read_bytes() == CONTENT[:HALF]
    server.plans["/eye.pth"].cuts.clear()
    server.requests.clear()
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-"]


def test_an_endless_circle_ends(server: Server) -> None:
    """A server that always starts anew, and always breaks off at the same place."""
    server.plans["/eye.pth"] = Plan(cuts=[HALF] * 99, honours_range=False)
    assert "brought nothing more" in words(get, source_of(server))
    assert len(server.requests) == 1 + len(NO_WAITS)


def test_the_next_command_goes_on(server: Server) -> None:
    leave_half(server)
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-"]
    assert server.requests[0].headers["if-range"] == '"one"'
    assert server.sent == len(CONTENT) - HALF


def test_a_server_that_ignores_ranges_sends_all_again(server: Server) -> None:
    leave_half(server, honours_range=False)
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert (server.ranges, server.sent) == ([f"bytes={HALF}-"], len(CONTENT))


@pytest.mark.parametrize("honours_if_range", [True, False])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ETag": '"one"'}, {"ETag": '"two"'}),
        (
            {"Last-Modified": MONDAY},
            {"Last-Modified": TUESDAY},
        ),
        ({"X-Goog-Hash": "crc32c=AAAAAA=="}, {"X-Goog-Hash": "crc32c=BBBBBB=="}),
    ],
)
def test_a_file_replaced_at_the_server_is_not_glued(
    server: Server, before: dict[str, str], after: dict[str, str], honours_if_range: bool
) -> None:
    plan = leave_half(server, headers=before, honours_if_range=honours_if_range)
    plan.content, plan.headers = OTHER, after
    assert get(source_of(server)).path.read_bytes() == OTHER
    assert server.ranges[0] == f"bytes={HALF}-"
    assert held("eye").record.files[0].sha256 == OTHER_SHA256  # type: ignore[union-attr]


def test_a_file_of_another_length_is_not_glued(server: Server) -> None:
    plan = leave_half(server, honours_if_range=False)
    plan.content = OTHER + b"more"
    assert get(source_of(server)).path.read_bytes() == OTHER + b"more"


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_word_of_the_server_a_new_command_starts_anew(
    server: Server, headers: dict[str, str]
) -> None:
    """Nothing tells the file there from another of its length: half an old one is not believed."""
    plan = leave_half(server, headers=headers)
    plan.content = OTHER
    assert get(source_of(server)).path.read_bytes() == OTHER
    assert server.ranges == [None]


def test_a_known_hash_is_word_enough(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(headers={}, cuts=[HALF])
    with pytest.raises(WeightsError):
        get(source_of(server, sha256=SHA256), waits=())
    get(source_of(server, sha256=SHA256))
    assert server.ranges == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("damage", ["", "{", None])
def test_a_part_without_its_note_is_not_used(server: Server, damage: str | None) -> None:
    leave_half(server)
    note = part().with_name("eye.pth.part.json")
    part().write_bytes(b"x" * HALF)
    note.unlink() if damage is None else note.write_text(damage, "utf-8")
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert server.ranges == [None]


def test_a_part_of_another_address_is_not_used(server: Server) -> None:
    leave_half(server)
    server.plans["/new.pth"] = Plan(content=OTHER)
    assert get(source_of(server, "/new.pth")).path.read_bytes() == OTHER
    assert server.ranges == [None]


def test_a_part_that_is_whole_needs_no_more_bytes(server: Server) -> None:
    """Killed after the last byte, before the file had its name."""
    leave_half(server)
    part().write_bytes(CONTENT)
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert server.requests == []


def test_a_file_that_had_arrived_is_checked_once_more(server: Server) -> None:
    """Killed before the checks, with the file under its working name."""
    server.plans["/eye.pth"] = Plan()
    arrived = partial_of("eye") / "eye.pth"
    arrived.parent.mkdir(parents=True)
    arrived.write_bytes(OTHER)
    assert "what came has" in words(get, source_of(server, sha256=SHA256))
    assert not arrived.exists()
    arrived.write_bytes(CONTENT[:HALF])
    assert "what the server sends has 524,288" in words(get, source_of(server, size=len(CONTENT)))
    assert not arrived.exists()
    arrived.write_bytes(CONTENT)
    assert get(source_of(server, sha256=SHA256)).path.read_bytes() == CONTENT
    assert server.requests == []


def test_a_part_longer_than_the_file_starts_anew(server: Server) -> None:
    plan = leave_half(server)
    plan.content = CONTENT[:1000]
    plan.honours_if_range = False
    assert get(source_of(server)).path.read_bytes() == CONTENT[:1000]
    assert server.ranges == [f"bytes={HALF}-", None]  # the first was answered 416


# Lies


def test_more_was_promised_than_comes(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(length=len(CONTENT) + 10)
    said = words(get, source_of(server), waits=(0.0,))
    assert "1.0 MB of 1.0 MB have arrived" in said
    assert "brought nothing more" in said
    assert nothing_is_there()


def test_less_was_promised_than_is_known(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(length=HALF)
    assert words(get, source_of(server, size=len(CONTENT))) == (
        "WeightsError: a download must have its known size.\n"
        f"  {server.address}/eye.pth: eye.pth has 1,048,576 bytes, what the server sends has 524,288; "
        "it was deleted\n"
        "  hint: run the same command again; if it stays so, the file there was replaced: ask its authors"
    )
    assert nothing_is_there()
    assert not part().exists()


def test_less_was_promised_and_only_the_inspection_can_know(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(length=HALF)

    def inspect(path: Path) -> None:
        assert path.name == "eye.pth"  # its ending says what kind of file it is
        if path.stat().st_size < len(CONTENT):
            raise WeightsError("a weights file must be whole.", f"{path.name} ends too early")

    assert words(get, source_of(server), inspect=inspect) == (
        "WeightsError: a weights file must be whole.\n  eye.pth ends too early"
    )
    assert nothing_is_there()
    assert [path.name for path in partial_of("eye").iterdir()] == ["licence.json"]
    server.plans["/eye.pth"].length = None
    assert get(source_of(server), inspect=inspect).path.read_bytes() == CONTENT


@pytest.mark.parametrize("plan", [{"chunked": True}, {"says_length": False}])
def test_without_a_promise_the_known_size_counts(server: Server, plan: dict[str, Any]) -> None:
    server.plans["/eye.pth"] = Plan(**plan, content=CONTENT + b"!")
    assert "has 1,048,576 bytes, what the server sends has" in words(
        get, source_of(server, size=len(CONTENT))
    )
    assert nothing_is_there()
    server.plans["/eye.pth"] = Plan(**plan, cuts=[HALF])
    assert get(source_of(server, size=len(CONTENT))).path.read_bytes() == CONTENT
    assert server.ranges[1:] == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("plan", [{"chunked": True}, {"says_length": False}])
def test_what_does_not_end_is_not_read_to_its_end(server: Server, plan: dict[str, Any]) -> None:
    server.plans["/eye.pth"] = Plan(**plan, content=CONTENT * 8)
    said = words(get, source_of(server, size=len(CONTENT)))
    found = re.search(r"the server sends has ([\d,]+);", said)
    assert found
    assert len(CONTENT) < int(found[1].replace(",", "")) < 2 * len(CONTENT)


def test_a_range_that_begins_elsewhere_is_not_glued(server: Server) -> None:
    plan = leave_half(server)

    def astray(handler: BaseHTTPRequestHandler) -> None:
        plan.answer = None
        body, span = CONTENT[HALF - 10 :], f"bytes {HALF - 10}-{len(CONTENT) - 1}/{len(CONTENT)}"
        handler.plain(206, {"Content-Range": span, "Content-Length": str(len(body)), "ETag": '"one"'}, body)  # type: ignore[attr-defined]

    plan.answer = astray
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-", None]


def test_a_chunked_answer_that_breaks_off_is_no_file(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(chunked=True, cuts=[HALF])
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_an_empty_file_is_none(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(content=b"")
    assert "has some bytes, what the server sends has 0" in words(get, source_of(server))
    assert nothing_is_there()


def test_a_wrong_file_is_refused_by_its_hash(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(content=OTHER)
    assert words(get, source_of(server, sha256=SHA256)) == (
        "WeightsError: a download must be the file that is known.\n"
        f"  {server.address}/eye.pth: eye.pth is known to have sha256 {SHA256[:12]}…, "
        f"what came has {OTHER_SHA256[:12]}…; it was deleted\n"
        "  hint: run the same command again; if it stays so, the file there was replaced: ask its authors"
    )
    assert nothing_is_there()
    assert [path.name for path in partial_of("eye").iterdir()] == ["licence.json"]
    server.plans["/eye.pth"].content = CONTENT
    assert get(source_of(server, sha256=SHA256)).path.read_bytes() == CONTENT
    assert server.ranges == [None, None]


PAGE = b"<!DOCTYPE html><html><head><title>\n Sign in to Hotel Wi-Fi </title></head></html>"


@pytest.mark.parametrize(
    ("kind", "page"),
    [("text/html; charset=utf-8", b"<!-- hello -->" + PAGE), ("application/octet-stream", b"\r\n" + PAGE)],
)
def test_a_web_page_is_no_weights_file(server: Server, kind: str, page: bytes) -> None:
    leave_half(server)
    server.plans["/eye.pth"] = Plan(content=page, kind=kind, headers={})
    assert words(get, source_of(server)) == (
        "WeightsError: a download must be a file of weights.\n"
        f"  {server.address}/eye.pth answers with a web page, “Sign in to Hotel Wi-Fi”\n"
        f"  hint: fetch the file by hand from {server.address}/eye.pth and name it with --weights FILE"
    )
    assert nothing_is_there()
    assert part().read_bytes() == CONTENT[:HALF], "signing in must not cost what had arrived"


def test_a_changed_file_in_the_cache_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.plans["/eye.pth"] = Plan()
    path = get(source_of(server)).path
    path.write_bytes(OTHER)
    said = (
        "WeightsError: weights must be those recorded when they were first downloaded.\n"
        f"  {path}: sha256 {SHA256[:12]}… was recorded, it has {OTHER_SHA256[:12]}…\n"
        "  hint: delete this file and run: panderm models pull eye"
    )
    assert words(get, source_of(server)) == said
    path.unlink()
    server.plans["/eye.pth"].content = OTHER
    monkeypatch.setattr(download, "_now", lambda: "2099-01-01T00:00:00+00:00")
    recorded = read_record("eye")
    assert recorded is not None
    assert words(get, source_of(server)) == (
        "WeightsError: weights must be those recorded when they were first downloaded.\n"
        f"  {server.address}/eye.pth: sha256 {SHA256[:12]}… was recorded on {recorded.files[0].at[:10]}, "
        f"what came now has {OTHER_SHA256[:12]}…\n"
        f"  hint: ask its authors which one is right; to trust the new one, delete {folder_of('eye')} "
        "and run the same command again"
    )
    assert not path.exists()
    assert read_record("eye") == recorded
    server.plans["/eye.pth"].content = CONTENT
    assert get(source_of(server)).record == recorded
    shutil.rmtree(folder_of("eye"))
    server.plans["/eye.pth"].content = OTHER
    assert get(source_of(server)).path.read_bytes() == OTHER  # trusted anew, as the hint says


def test_a_card_that_names_another_hash_is_believed(server: Server) -> None:
    server.plans["/eye.pth"] = Plan()
    path = get(source_of(server)).path
    assert words(get, source_of(server, sha256=OTHER_SHA256)) == (
        "WeightsError: weights must be those their card names.\n"
        f"  {path}: the card of eye names sha256 {OTHER_SHA256[:12]}…, it has {SHA256[:12]}…\n"
        f"  hint: delete the folder {path.parent} and run: panderm models pull eye"
    )


# What a server answers


@pytest.mark.parametrize(
    ("status", "says"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone"), (401, "401")]
)
def test_a_final_no_is_not_asked_again(server: Server, status: int, says: str) -> None:
    server.plans["/eye.pth"] = Plan(statuses=[status] * 9)
    said = words(get, source_of(server))
    assert said.startswith(
        "WeightsError: the file must be at its address.\n"
        f"  {server.address}/eye.pth: the server answered {says}"
    )
    assert said.endswith(
        "hint: ask the authors of eye where it is now, fetch it in a browser, and name it with --weights FILE"
    )
    assert len(server.requests) == 1
    assert nothing_is_there()


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    server.plans["/eye.pth"] = Plan(statuses=[status] * 3, cuts=[HALF])
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert len(server.requests) == 5
    assert server.ranges[-1] == f"bytes={HALF}-"


def test_a_server_that_names_a_wait_gets_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(fetch, "_sleep", waited.append)
    server.plans["/eye.pth"] = Plan(statuses=[429] * 2, headers={"Retry-After": "7"})
    get(source_of(server), waits=(1.0, 30.0))
    server.plans["/eye.pth"] = Plan(statuses=[503, 503], headers={"Retry-After": "86400"})
    get(source_of(server), name="ear", waits=(1.0, 2.0))
    assert waited == [7.0, 30.0, 120.0, 120.0]


def test_a_server_that_stays_busy_is_left(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(statuses=[503] * 99)
    assert (
        f"{server.address}/eye.pth: 0 B have arrived, then 3 attempts in a row brought nothing more: "
        "the server answered 503 Service Unavailable\n"
    ) in words(get, source_of(server), waits=(0.0, 0.0))


def redirect(to: str, status: int = 302) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: handler.plain(status, {"Location": to})  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_with_what_is_held(server: Server, status: int) -> None:
    server.plans["/eye.pth"] = Plan(cuts=[HALF])
    server.plans["/old.pth"] = Plan(answer=redirect("/eye.pth", status))
    get(source_of(server, "/old.pth"))
    assert [(r.path, r.range) for r in server.requests] == [
        ("/old.pth", None),
        ("/eye.pth", None),
        ("/old.pth", f"bytes={HALF}-"),
        ("/eye.pth", f"bytes={HALF}-"),
    ]


@pytest.fixture
def https_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve https addresses without their encryption: only the address is to be judged here."""

    def https_open(self: Any, request: urllib.request.Request) -> Any:
        return self.do_open(http.client.HTTPConnection, request)

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", https_open)


@pytest.mark.usefixtures("https_is_plain")
def test_a_redirect_out_of_encryption_is_refused(server: Server) -> None:
    safe = server.address.replace("http:", "https:")
    server.plans["/eye.pth"] = Plan()
    server.plans["/old.pth"] = Plan(answer=redirect(f"{safe}/eye.pth"))
    source = Source(kind="url", where=f"{safe}/old.pth", file="eye.pth")
    get(source)
    server.plans["/old.pth"] = Plan(answer=redirect(f"{server.address}/eye.pth"))
    server.requests.clear()
    assert words(get, source, name="ear") == (
        "WeightsError: an encrypted download must stay encrypted.\n"
        f"  {safe} sends us on to {server.address}\n"
        "  hint: fetch the file in a browser, and name it with --weights FILE"
    )
    assert [request.path for request in server.requests] == ["/old.pth"]
    assert nothing_is_there("ear")


def test_a_redirect_leads_to_no_other_protocol(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(answer=redirect("ftp://127.0.0.1/eye.pth"))
    assert f"{server.address} sends us on to ftp://127.0.0.1" in words(get, source_of(server))
    server.plans["/eye.pth"] = Plan(answer=redirect("file:///etc/passwd"))
    assert "must be at its address" in words(get, source_of(server))
    assert nothing_is_there()


def test_a_circle_of_redirects_ends(server: Server) -> None:
    server.plans["/eye.pth"] = Plan(answer=redirect("/eye.pth"))
    assert "the file must be at its address." in words(get, source_of(server))


# No network, no room


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_refused_port_says_what_to_do(cache: Path) -> None:
    address = f"http://127.0.0.1:{closed_port()}/eye.pth"
    assert words(get, Source(kind="url", where=address, file="eye.pth"), waits=(1e6,)) == (
        "WeightsError: the weights of eye must come from the network, or from a file.\n"
        f"  {address} cannot be reached: Connection refused\n"
        "  hint: where there is a network, fetch eye.pth from that address in a browser, "
        "and name the file here with --weights FILE"
    )
    assert nothing_is_there()


def block(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refused(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(-3, "Temporary failure in name resolution"), "Temporary failure in name resolution"),
        (OSError("no network in this test"), "no network in this test"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_no_network_is_said_at_once(monkeypatch: pytest.MonkeyPatch, error: OSError, says: str) -> None:
    block(monkeypatch, error)
    source = Source(kind="url", where="https://example.org/eye.pth", file="eye.pth")
    assert f"https://example.org/eye.pth cannot be reached: {says}\n" in words(get, source, waits=(1e6,))


def test_a_network_that_goes_away_is_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.plans["/eye.pth"] = Plan(cuts=[HALF])
    connect = socket.create_connection
    calls = []

    def flaky(*args: Any, **options: Any) -> socket.socket:
        calls.append(args)
        if len(calls) == 2:
            raise ConnectionRefusedError(111, "Connection refused")
        return connect(*args, **options)

    monkeypatch.setattr(socket, "create_connection", flaky)
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert len(calls) == 3


def test_a_server_that_falls_silent_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_TIMEOUT", 0.2)
    awake, ended = threading.Event(), []
    server.plans["/eye.pth"] = Plan(cuts=[HALF], after=lambda _: ended.append(awake.wait(20)))
    try:
        get(source_of(server), waits=(0.0, 0.0))
        assert ended == [], "we left first"
    finally:
        awake.set()
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_room_is_asked_for_before_the_first_byte(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.plans["/eye.pth"] = Plan()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(CONTENT) - 1))
    assert words(get, source_of(server)) == (
        "ArtifactError: the disk must have room for the download.\n"
        f"  eye.pth needs 1.0 MB more in {folder_of('eye')}, 1.0 MB are free\n"
        "  hint: free some space, or set XDG_CACHE_HOME to a folder on another disk, "
        "and run the same command again"
    )
    assert not part().exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(CONTENT)))
    get(source_of(server))


def test_only_the_rest_needs_room(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_half(server)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(CONTENT) - HALF))
    get(source_of(server))
    server.plans["/ear"] = Plan(cuts=[HALF])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WeightsError):
        get(source_of(server, "/ear"), name="ear", waits=())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=HALF - 1))
    assert f"eye.pth needs 524.3 kB more in {folder_of('ear')}, 524.3 kB are free" in words(
        get, source_of(server, "/ear"), name="ear"
    )
    assert part("ear").stat().st_size == HALF


def test_a_disk_that_fills_up_keeps_what_arrived(server: Server) -> None:
    server.plans["/eye.pth"] = Plan()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, hard))
    try:
        said = words(get, source_of(server))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said == (
        "ArtifactError: the disk must have room for the download.\n"
        f"  no space left while writing {partial_of('eye') / 'eye.pth'}; what has arrived is kept\n"
        "  hint: free some space and run the same command again: it goes on where this one stopped"
    )
    kept = part().stat().st_size
    assert 0 < kept <= HALF
    server.requests.clear()
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={kept}-"]


def test_a_cache_that_cannot_be_written(tmp_path: Path, server: Server) -> None:
    (tmp_path / "panderm").write_text("a file", "utf-8")
    said = words(get, source_of(server))
    assert said.startswith("ArtifactError: the cache folder must be writable.\n")
    assert said.endswith("hint: mend its permissions, or set XDG_CACHE_HOME to a folder of yours")
    assert server.requests == []


# Interrupted and at once

SCRIPT = """
import sys
from panderm.weights.cache import Source
from panderm.weights.download import pull
found = pull("eye", [Source(kind="url", where=sys.argv[1], file="eye.pth")],
             licence="MIT", citation="none", accept_licence=True, waits=())
print(found.path, flush=True)
"""


def process(server: Server) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, f"{server.address}/eye.pth"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_control_c_keeps_what_arrived(server: Server) -> None:
    go_on = threading.Event()

    def interrupt(sent: int) -> None:
        if sent == HALF:
            wait_until(lambda: part().is_file() and part().stat().st_size == HALF)
            os.kill(os.getpid(), signal.SIGINT)
            go_on.wait(5)

    server.plans["/eye.pth"] = Plan(cuts=[HALF], after=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
    try:
        with pytest.raises(KeyboardInterrupt):
            get(source_of(server))
    finally:
        go_on.set()
        signal.signal(signal.SIGINT, before)
    assert nothing_is_there()
    assert part().read_bytes() == CONTENT[:HALF]
    server.requests.clear()
    server.plans["/eye.pth"].after = None
    assert get(source_of(server)).path.read_bytes() == CONTENT  # the lock is free again, too
    assert server.ranges == [f"bytes={HALF}-"]


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to this")


@pytest.mark.parametrize("begun", [1000, HALF])
def test_a_killed_process_loses_nothing(server: Server, begun: int) -> None:
    go_on = threading.Event()
    server.plans["/eye.pth"] = Plan(cuts=[begun], after=lambda sent: sent == begun and go_on.wait(20))
    with process(server) as running:
        wait_until(lambda: part().is_file() and part().stat().st_size == begun)
        os.kill(running.pid, signal.SIGKILL)
    go_on.set()
    assert running.returncode == -signal.SIGKILL
    assert nothing_is_there()
    server.requests.clear()
    assert get(source_of(server)).path.read_bytes() == CONTENT
    assert (server.ranges, server.sent) == ([f"bytes={begun}-"], len(CONTENT) - begun)


def test_two_at_once_download_once(server: Server) -> None:
    """The second waits, says for whom, and finds the file."""
    waits = threading.Event()
    server.plans["/eye.pth"] = Plan(before=lambda: waits.wait(20))
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(process(server))
        wait_until(lambda: bool(server.requests))
        server.plans["/eye.pth"].answer = lambda handler: handler.send_error(500)
        second = stack.enter_context(process(server))
        assert second.stderr is not None
        said = second.stderr.readline()
        waits.set()
        outputs = [running.communicate(timeout=60) for running in (first, second)]
    assert re.fullmatch(rf"waiting for process {first.pid} on .+, which is downloading eye\n", said)
    path = folder_of("eye") / "eye.pth"
    assert [out for out, _ in outputs] == [f"{path}\n"] * 2, outputs
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert sorted(path.name for path in path.parent.parent.iterdir()) == [".eye.lock", "eye"]


@pytest.mark.parametrize(("shown", "says"), [(True, "waiting for process "), (False, "")])
def test_waiting_may_be_silent(shown: bool, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    entered: list[bool] = []

    def enter() -> None:
        with alone("eye", shown=shown) as partial:
            entered.append(partial.is_dir())

    with alone("eye"):
        other = threading.Thread(target=enter)
        other.start()
        other.join(0.3)
        assert entered == []
    other.join()
    assert entered == [True]
    assert capsys.readouterr().err[: len("waiting for process ")] == says


# Google Drive

DRIVE = Source(kind="drive", where="1SwEzaOlFV_gBKf2", file="eye.pth")
BY_HAND = (
    "fetch the file by hand from https://drive.google.com/file/d/1SwEzaOlFV_gBKf2/view "
    "and name it with --weights FILE"
)
QUESTION = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<p>Google Drive can't scan this file for viruses.</p>
<form id="download-form" action="{address}/download" method="get">
<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="1SwEzaOlFV_gBKf2">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="u-1"></form></body>"""
QUOTA = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can't view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p></body>"""
ASKED = "/uc?id=1SwEzaOlFV_gBKf2&export=download"
CONFIRMED = "/download?id=1SwEzaOlFV_gBKf2&confirm=t&uuid=u-1"


@pytest.fixture
def drive(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A Drive of our own: a question first, the file behind it, and only with the cookie it sets."""
    monkeypatch.setattr(hosts, "_DRIVE", server.address + "/uc?id={id}&export=download")

    def ask(handler: BaseHTTPRequestHandler) -> None:
        page = QUESTION.format(address=server.address).encode()
        headers = {"Content-Type": "text/html; charset=utf-8", "Set-Cookie": "warned=yes"}
        handler.plain(200, headers, page)  # type: ignore[attr-defined]

    server.plans[ASKED] = Plan(answer=ask)
    server.plans[CONFIRMED] = Plan(
        headers={"Content-Disposition": 'attachment; filename="eye.pth"', "ETag": '"one"'}
    )
    return server


def test_drive_is_answered_its_question(drive: Server) -> None:
    drive.plans[CONFIRMED].cuts = [HALF, 1000]
    assert get(DRIVE).path.read_bytes() == CONTENT
    assert [(r.path, r.range) for r in drive.requests if r.path == CONFIRMED] == [
        (CONFIRMED, None),
        (CONFIRMED, f"bytes={HALF}-"),
        (CONFIRMED, f"bytes={HALF + 1000}-"),
    ]
    assert drive.sent == len(CONTENT)
    assert all(r.headers["cookie"] == "warned=yes" for r in drive.requests if r.path == CONFIRMED)


@pytest.mark.usefixtures("https_is_plain")
def test_a_question_of_drive_does_not_lead_out_of_encryption(
    drive: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = drive.address.replace("http:", "https:")
    monkeypatch.setattr(hosts, "_DRIVE", f"{safe}/uc?id={{id}}&export=download")
    assert f"{safe} sends us on to {drive.address}" in words(get, DRIVE)
    assert [request.path for request in drive.requests] == [ASKED]


def test_drive_gives_a_small_file_without_a_question(drive: Server) -> None:
    drive.plans[ASKED] = drive.plans.pop(CONFIRMED)
    assert get(DRIVE).path.read_bytes() == CONTENT


def test_drive_goes_on_in_a_new_process_with_the_same_file_only(drive: Server) -> None:
    drive.plans[CONFIRMED].cuts = [HALF]
    assert "https://drive.google.com/file/d/1SwEzaOlFV_gBKf2/view: 524.3 kB of 1.0 MB" in words(
        get, DRIVE, waits=()
    )
    drive.plans[CONFIRMED].content = OTHER
    drive.plans[CONFIRMED].headers["ETag"] = '"two"'
    assert get(DRIVE).path.read_bytes() == OTHER


@pytest.mark.parametrize("page", [QUOTA, "<html><title>Sign in - Google Accounts</title></html>"])
def test_drive_wants_a_browser(drive: Server, page: str) -> None:
    drive.plans[ASKED] = Plan(content=page.encode(), kind="text/html", headers={})
    assert words(get, DRIVE) == (
        "WeightsError: Google Drive must hand out the file.\n"
        "  its quota for eye.pth is spent for today, or it wants to be asked by a browser\n"
        f"  hint: {BY_HAND}"
    )
    assert nothing_is_there()
    assert len(drive.requests) == 1


def test_drive_that_asks_without_end_is_left(drive: Server) -> None:
    drive.plans[CONFIRMED] = drive.plans[ASKED]
    assert "Google Drive must hand out the file." in words(get, DRIVE)
    assert len(drive.requests) == 4


def test_drive_that_forbids(drive: Server) -> None:
    drive.plans[CONFIRMED].statuses = [403]
    assert "its quota for eye.pth is spent" in words(get, DRIVE)
    drive.plans[ASKED] = Plan(statuses=[404])
    assert (
        "https://drive.google.com/file/d/1SwEzaOlFV_gBKf2/view: the server answered 404 Not Found"
    ) in words(get, DRIVE)


def test_without_gdown_drive_is_not_asked(drive: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    assert words(get, DRIVE) == (
        "UsageError: a download from Google Drive needs the package gdown.\n"
        "  it is not installed, and eye.pth lies there\n"
        f"  hint: pip install 'panderm[pull]'; or {BY_HAND}"
    )
    assert drive.requests == []


def test_without_a_network_drive_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    block(monkeypatch, OSError("no network in this test"))
    assert words(get, DRIVE, waits=(1e6,)) == (
        "WeightsError: the weights of eye must come from the network, or from a file.\n"
        "  https://drive.google.com/file/d/1SwEzaOlFV_gBKf2/view cannot be reached: no network in this test\n"
        "  hint: where there is a network, fetch eye.pth from that address in a browser, "
        "and name the file here with --weights FILE"
    )


# The Hugging Face Hub

PAGE_OF_IT = "https://huggingface.co/ORG/NAME"
HUB = Source(kind="hub", where="ORG/NAME", file="eye.pth")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
AT_MAIN, AT_COMMIT = (f"/ORG/NAME/resolve/{revision}/eye.pth" for revision in ("main", COMMIT))


class Hub(NamedTuple):
    server: Server
    store: Plan  # another machine's: the file itself
    headers: dict[str, str]


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A Hub of our own: it names hash and commit, and sends on to a store that must not see the token."""
    from huggingface_hub import constants

    monkeypatch.setattr(hosts, "_HUB", server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    store = f"http://localhost:{server.server_address[1]}/store"
    headers = {
        "Location": store,
        "X-Repo-Commit": COMMIT,
        "X-Linked-Etag": f'"{SHA256}"',
        "X-Linked-Size": str(len(CONTENT)),
    }

    def resolve(handler: BaseHTTPRequestHandler) -> None:
        assert handler.headers["Authorization"] == "Bearer hf_of_this_test"
        handler.plain(302, headers)  # type: ignore[attr-defined]

    server.plans[AT_MAIN] = server.plans[AT_COMMIT] = Plan(answer=resolve)
    server.plans["/store"] = Plan()
    return Hub(server, server.plans["/store"], headers)


def test_the_hub_sends_on_to_its_store(hub: Hub) -> None:
    found = get(HUB)
    assert found.path.read_bytes() == CONTENT
    assert found.record.files[0].revision == COMMIT
    assert [(r.method, r.path) for r in hub.server.requests] == [
        ("HEAD", AT_MAIN),
        ("GET", AT_COMMIT),
        ("GET", "/store"),
    ]
    assert "authorization" not in hub.server.requests[-1].headers, "a token is for the Hub only"
    assert {r.headers["user-agent"] for r in hub.server.requests} == {f"panderm/{version()}"}


def test_the_hub_breaks_off(hub: Hub) -> None:
    hub.store.cuts = [HALF, 1000]
    hub.store.headers = {}  # a store of the Hub may name the file in its own way, or in none
    assert get(HUB).path.read_bytes() == CONTENT
    ranges = [r.range for r in hub.server.requests if r.path == "/store"]
    assert ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert hub.server.sent == len(CONTENT)


def test_the_hub_goes_on_in_a_new_process(hub: Hub) -> None:
    hub.store.cuts = [HALF]
    assert "https://huggingface.co/ORG/NAME/resolve/main/eye.pth: 524.3 kB of 1.0 MB" in words(
        get, HUB, waits=()
    )
    hub.store.headers = {"ETag": '"of another store"'}
    hub.server.requests.clear()
    assert get(HUB).path.read_bytes() == CONTENT
    assert (hub.server.requests[-1].range, hub.server.sent) == (f"bytes={HALF}-", len(CONTENT) - HALF)


def test_a_new_file_on_the_hub_is_not_glued(hub: Hub) -> None:
    hub.store.cuts = [HALF]
    with pytest.raises(WeightsError):
        get(HUB, waits=())
    hub.store.content = OTHER
    hub.headers["X-Linked-Etag"] = f'"{OTHER_SHA256}"'
    hub.server.requests.clear()
    assert get(HUB).path.read_bytes() == OTHER
    assert hub.server.requests[-1].range is None


def test_the_hubs_own_hash_is_compared(hub: Hub) -> None:
    hub.store.content = OTHER
    assert (
        f"{PAGE_OF_IT}/resolve/main/eye.pth: eye.pth is known to have sha256 {SHA256[:12]}…, "
        f"what came has {OTHER_SHA256[:12]}…; it was deleted\n"
    ) in words(get, HUB)
    hub.store.content = OTHER[:-1]
    assert "eye.pth has 1,048,576 bytes, what the server sends has 1,048,575; it was deleted" in words(
        get, HUB
    )
    hub.store.content, hub.store.chunked = CONTENT + b"!", True
    assert "eye.pth has 1,048,576 bytes, what the server sends has 1,048,577; it was deleted" in words(
        get, HUB
    )
    assert nothing_is_there()


def test_a_revision_is_asked_for(hub: Hub) -> None:
    hub.server.plans["/ORG/NAME/resolve/v1.0/eye.pth"] = hub.server.plans[AT_MAIN]
    get(HUB.model_copy(update={"where": "ORG/NAME@v1.0"}))
    assert hub.server.requests[0].path == "/ORG/NAME/resolve/v1.0/eye.pth"


REFUSALS = [
    (
        401,
        "GatedRepo",
        "the terms of a gated repository must be accepted.",
        f"{PAGE_OF_IT} asks for that first",
        f"accept them at {PAGE_OF_IT} in a browser, and sign in here with: hf auth login",
    ),
    (
        404,
        "RepoNotFound",
        "the repository must be on the Hub.",
        f"{PAGE_OF_IT} is not there, or is private",
        "compare the name; for a private one ask its owners for access, and sign in here with: hf auth login",
    ),
    (
        404,
        "RevisionNotFound",
        "the revision must be in the repository.",
        f"{PAGE_OF_IT} has no revision v9",
        f"see which there are at {PAGE_OF_IT}/commits/main",
    ),
    (
        404,
        "EntryNotFound",
        "the file must be in the repository.",
        f"{PAGE_OF_IT} has no file eye.pth",
        f"see which there are at {PAGE_OF_IT}/tree/v9",
    ),
    (
        403,
        "",
        "you must be allowed to read the repository.",
        f"{PAGE_OF_IT} answered 403",
        "ask its owners for access, and sign in here with: hf auth login",
    ),
    (
        410,
        "",
        "the file must be at its address.",
        f"{PAGE_OF_IT}/resolve/v9/eye.pth: the server answered 410 Gone",
        "ask the authors of eye where it is now, fetch it in a browser, and name it with --weights FILE",
    ),
]


@pytest.mark.parametrize(("status", "code", "must", "found", "hint"), REFUSALS)
def test_the_hub_says_no(hub: Hub, status: int, code: str, must: str, found: str, hint: str) -> None:
    hub.server.plans["/ORG/NAME/resolve/v9/eye.pth"] = Plan(
        statuses=[status], headers={"X-Error-Code": code} if code else {}
    )
    source = HUB.model_copy(update={"where": "ORG/NAME@v9"})
    assert words(get, source) == f"WeightsError: {must}\n  {found}\n  hint: {hint}"
    assert len(hub.server.requests) == 1
    assert nothing_is_there()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_hub_is_asked_again(hub: Hub, status: int) -> None:
    hub.server.plans[AT_MAIN].statuses = [status] * 2
    assert get(HUB).path.read_bytes() == CONTENT


def test_without_a_network_the_hub_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(hosts, "_HUB", f"http://127.0.0.1:{closed_port()}")
    must = "WeightsError: the weights of eye must come from the network, or from a file.\n"
    there = f"  {PAGE_OF_IT}/resolve/main/eye.pth cannot be reached: "
    said = words(get, HUB, waits=(1e6,))
    assert said.startswith(must + there)
    assert "Connection refused" in said
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert words(get, HUB, waits=(1e6,)).startswith(f"{must}{there}HF_HUB_OFFLINE is set\n")


def test_a_note_holds_no_secret(hub: Hub) -> None:
    hub.store.cuts = [HALF]
    with pytest.raises(WeightsError):
        get(HUB, waits=())
    kept = [path.read_bytes() for path in partial_of("eye").rglob("*") if path.suffix == ".json"]
    assert len(kept) == 2
    assert not any(b"hf_of_this_test" in content for content in kept)
    assert all(json.loads(content) for content in kept)
