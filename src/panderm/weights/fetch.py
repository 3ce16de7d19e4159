"""One file from its address to this disk: a break costs nothing that has arrived.

The server is asked for the rest only, and only of the very file it had begun to send: what it said of that
file (ETag, date, length) is kept beside the partial one.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import urlsplit

from panderm.errors import ArtifactError, WeightsError, in_bytes
from panderm.progress import Progress
from panderm.provenance import Record
from panderm.storage import write_json
from panderm.weights.cache import Source, folder_of, read_if_whole
from panderm.weights.hosts import (
    Place,
    RefusedError,
    UnreachedError,
    agent,
    behind_the_question,
    place_of,
    words_of,
)

_LONGEST_WAIT = 120.0  # seconds, where a server names its own
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18
_sleep = time.sleep


class Note(Record):
    """What a server said of a file it began to send; kept beside the partial file.

    ``identity``, ``sha256`` and ``revision`` are the Hub's, and known before the first byte.
    """

    source: Source
    identity: str | None = None
    sha256: str | None = None
    revision: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    checksum: str | None = None
    length: int | None = None

    @property
    def is_of_one_file(self) -> bool:
        """Say whether this tells the file from another one of the same length."""
        named = (self.source.sha256, self.identity, self.etag, self.last_modified, self.checksum)
        return any(named)

    def agrees(self, now: Note) -> bool:
        """Say whether nothing a server says now speaks against its sending the same file."""
        pairs = [
            (getattr(self, key), getattr(now, key)) for key in ("etag", "last_modified", "checksum", "length")
        ]
        return all(old == new for old, new in pairs if old is not None and new is not None)


class _BrokenError(Exception):
    """The connection broke off, or the server is busy: worth another attempt after ``wait`` seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Fetch:
    """One file's way from its address to ``part``."""

    def __init__(self, name: str, source: Source, arrived: Path, shown: bool) -> None:
        self.name, self.source, self.shown = name, source, shown
        self.part = arrived.with_name(arrived.name + ".part")
        self.note_path = arrived.with_name(arrived.name + ".part.json")
        self.location = source.location
        self.answered = False  # by the server, in this process
        self.length: int | None = None  # by its last word, for what we say
        self.opener = urllib.request.build_opener(
            _Redirects, urllib.request.HTTPCookieProcessor(CookieJar()), _https()
        )

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)

    def run(self, waits: Sequence[float]) -> None:
        """Bring the file to its full length, going on after every break; give up where none helps."""
        farthest, failures = self.have, 0
        while True:
            try:
                return self.attempt()
            except _BrokenError as broken:
                failures = 1 if self.have > farthest else failures + 1
                farthest = max(farthest, self.have)
                if failures > len(waits):
                    whole = f" of {in_bytes(self.length)}" if self.length else ""
                    raise WeightsError(
                        f"the download of {self.name} must come to its end.",
                        f"{self.location}: {in_bytes(farthest)}{whole} have arrived, "
                        f"then {failures} attempts in a row brought nothing more: {broken}",
                        "run the same command again: it goes on where this one stopped; or fetch the file "
                        "in a browser and name it with --weights FILE",
                    ) from broken
                _sleep(max(waits[failures - 1], broken.wait))

    def attempt(self) -> None:
        """Ask once for what is missing, and write what comes."""
        place = self.resolve()
        now = Note(
            source=self.source,
            identity=place.identity,
            sha256=place.sha256,
            revision=place.revision,
            length=self.source.size or place.size,
        )
        note, headers = read_if_whole(Note, self.note_path), dict(place.headers)
        if note and (note.source, note.identity) != (self.source, place.identity):
            note = None
        if note and self.have and self.have == note.length:
            return  # the process ended between the last byte and the new name
        # Without a word of the server's that tells the file from another, a new process starts anew.
        goes_on = note is not None and self.have > 0 and (note.is_of_one_file or self.answered)
        if note and goes_on:
            headers["Range"] = f"bytes={self.have}-"
            if note.etag or note.last_modified:
                headers["If-Range"] = note.etag or str(note.last_modified)
        with self.open(place.address, headers) as answer:
            self.answered = True
            self.receive(answer, note if goes_on else None, now)

    def receive(self, answer: http.client.HTTPResponse, note: Note | None, now: Note) -> None:
        """Write an answer's bytes behind those at hand, or from the start where it holds the whole file."""
        said, begins = _heard(answer, now)
        chunks = _chunks(answer)
        if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
            if note is None or begins != self.have or not note.agrees(said):
                self.discard()
                raise _BrokenError("the file there is another one than the one that had begun to come")
            length = note.length or said.length
        else:
            first = next(chunks, b"")
            if _is_page(answer) or first[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
                raise self.page(first)
            length = said.length
            if length is not None and now.length not in (None, length):
                raise self.wrong_size(length, now.length)
            self.discard()
            self.require_room(length)
            write_json(self.note_path, said.model_dump(mode="json"), overwrite=True)
            chunks = itertools.chain([first], chunks)
        self.length = length
        self.require_room(length)
        bar = Progress(length, f"downloading {self.source.file}", "B", done=self.have, shown=self.shown)
        with bar, self.part.open("ab") as file:
            for chunk in chunks:
                file.write(chunk)
                file.flush()  # a process that is killed loses nothing
                bar.advance(len(chunk))
                if length and file.tell() > length:
                    break
        if length and self.have < length:
            raise _BrokenError("the connection broke off")
        if self.have == 0 or (length and self.have > length):
            raise self.wrong_size(self.have, length)

    def resolve(self) -> Place:
        try:
            return place_of(self.source)
        except RefusedError as error:
            self.refused(error)
        except UnreachedError as error:
            self.unreached(error)

    def open(self, address: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Return the server's answer; of Google Drive the file behind its question, not the question."""
        for _ in range(4):
            answer = self.get(address, headers)
            if self.source.kind != "drive" or not _is_page(answer):
                return answer
            with answer:
                page = b"".join(itertools.islice(_chunks(answer), 64)).decode("utf-8", "replace")
            behind = behind_the_question(page)
            if behind is None:
                break
            _require_no_downgrade(address, behind)
            address = behind
        raise self.page(b"")

    def get(self, address: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        sent = {"User-Agent": agent(), "Accept-Encoding": "identity", **headers}
        request = urllib.request.Request(address, headers=sent)
        try:
            answer: http.client.HTTPResponse = self.opener.open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                self.refused(RefusedError(error.code, str(error.reason), error.headers.get("Retry-After")))
        except urllib.error.URLError as error:  # before there was a connection
            lasting = not isinstance(error.reason, ConnectionResetError | ConnectionAbortedError)
            self.unreached(UnreachedError(words_of(error.reason), lasting=lasting))
        except (OSError, http.client.HTTPException) as error:
            self.unreached(UnreachedError(words_of(error), lasting=False))
        return answer

    def refused(self, error: RefusedError) -> NoReturn:
        """Raise what an HTTP status means: wait and try again, or give up."""
        answered = f"the server answered {error}"
        if error.code in (408, 425, 429) or error.code >= 500:
            seconds = float(error.after) if error.after and error.after.isdecimal() else 0.0
            raise _BrokenError(answered, min(seconds, _LONGEST_WAIT)) from error
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.discard()
            raise _BrokenError(answered) from error
        if self.source.kind == "drive" and error.code == http.HTTPStatus.FORBIDDEN:
            raise self.page(b"") from error
        raise WeightsError(
            "the file must be at its address.",
            f"{self.location}: {answered}",
            f"ask the authors of {self.name} where it is now, fetch it in a browser, "
            "and name it with --weights FILE",
        ) from error

    def unreached(self, error: UnreachedError) -> NoReturn:
        """Raise what no answer means: a break where there was one before, else no network."""
        if error.lasting and not self.answered:
            raise WeightsError(
                f"the weights of {self.name} must come from the network, or from a file.",
                f"{self.location} cannot be reached: {error}",
                f"where there is a network, fetch {self.source.file} from that address in a browser, "
                "and name the file here with --weights FILE",
            ) from error
        raise _BrokenError(str(error)) from error

    def page(self, content: bytes) -> WeightsError:
        """Return what it means that a web page came: Drive's quota, a login, a hotel's network."""
        by_hand = f"fetch the file by hand from {self.location} and name it with --weights FILE"
        if self.source.kind == "drive":
            return WeightsError(
                "Google Drive must hand out the file.",
                f"its quota for {self.source.file} is spent for today, or it wants to be asked by a browser",
                by_hand,
            )
        title = re.search(rb"<title[^>]*>\s*([^<]*?)\s*</title>", content, re.IGNORECASE)
        what = f", “{title[1].decode('utf-8', 'replace')[:80]}”" if title else ""
        return WeightsError(
            "a download must be a file of weights.", f"{self.location} answers with a web page{what}", by_hand
        )

    def wrong_size(self, size: int, known: int | None) -> WeightsError:
        """Delete what is there of the file, and return what to say of its size."""
        self.discard()
        has = f"{known:,} bytes" if known else "some bytes"
        return WeightsError(
            "a download must have its known size.",
            f"{self.location}: {self.source.file} has {has}, what the server sends has {size:,}; "
            "it was deleted",
            "run the same command again; if it stays so, the file there was replaced: ask its authors",
        )

    def require_room(self, length: int | None) -> None:
        needed, free = (length or 0) - self.have, shutil.disk_usage(self.part.parent).free
        if needed > free:
            raise ArtifactError(
                "the disk must have room for the download.",
                f"{self.source.file} needs {in_bytes(needed)} more in {folder_of(self.name)}, "
                f"{in_bytes(free)} are free",
                "free some space, or set XDG_CACHE_HOME to a folder on another disk, "
                "and run the same command again",
            )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirect, but never out of encryption, and never with the token to another server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _require_no_downgrade(req.full_url, newurl)
        except WeightsError:
            fp.close()
            raise
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


def _require_no_downgrade(old: str, new: str) -> None:
    before, after = urlsplit(old), urlsplit(new)
    if after.scheme != "https" and (before.scheme == "https" or after.scheme != "http"):
        raise WeightsError(
            "an encrypted download must stay encrypted.",
            f"{before.scheme}://{before.netloc} sends us on to {after.scheme}://{after.netloc}",
            "fetch the file in a browser, and name it with --weights FILE",
        )


def _https() -> urllib.request.HTTPSHandler:
    context = ssl.create_default_context()
    if not context.get_ca_certs() and not ssl.get_default_verify_paths().capath:
        with contextlib.suppress(ImportError):  # a Python that knows no authorities, as on a fresh macOS
            import certifi

            context.load_verify_locations(certifi.where())
    return urllib.request.HTTPSHandler(context=context)


def _heard(answer: http.client.HTTPResponse, now: Note) -> tuple[Note, int | None]:
    """Return the note with what this answer says of the file, and at which byte the answer begins."""
    said: dict[str, Any] = {}
    begins: int | None = 0
    length = answer.headers.get("Content-Length", "")
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        begins, length = (int(span[1]), span[2]) if span else (None, "")
    if length.isdecimal():
        said["length"] = int(length)
    if not now.identity:  # the Hub's stores name the same file in several ways
        etag = answer.headers.get("ETag")
        said["etag"] = None if etag and etag.startswith("W/") else etag
        said["last_modified"] = answer.headers.get("Last-Modified")
        said["checksum"] = answer.headers.get("X-Goog-Hash")
    return now.model_copy(update=said), begins


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield what arrives, as it arrives."""
    try:
        while chunk := answer.read1(_CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError("the connection broke off") from error


def _is_page(answer: http.client.HTTPResponse) -> bool:
    return (
        answer.headers.get_content_type() == "text/html"
        and answer.headers.get_content_disposition() != "attachment"
    )
