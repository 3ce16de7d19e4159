"""Where a file lies and who may have it: huggingface_hub and gdown are asked here, each for that only.

The bytes are read by :mod:`panderm.weights.fetch`. Neither library can be trusted to go on in a new process
where a killed one stopped: the first deletes its partial file, the second goes on with it even where the
file at the server has been replaced meanwhile.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from panderm.errors import UsageError, WeightsError
from panderm.provenance import version
from panderm.weights.cache import Source

_DRIVE = "https://drive.google.com/uc?id={id}&export=download"
_HUB: str | None = None  # None: where huggingface_hub looks (HF_ENDPOINT, or huggingface.co)


class RefusedError(Exception):
    """A server answered, but with a status that is none of success."""

    def __init__(self, code: int, reason: str, after: str | None) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.after = after  # its own words on when to come back


class UnreachedError(Exception):
    """No server answered. ``lasting``: none is there, as without a network; else it may have been chance."""

    def __init__(self, reason: str, *, lasting: bool) -> None:
        super().__init__(reason)
        self.lasting = lasting


class Place(NamedTuple):
    """Where one file lies now, and what is known of it before its first byte."""

    address: str
    headers: dict[str, str]
    identity: str | None = None  # of its content, by the Hub's own word
    sha256: str | None = None
    revision: str | None = None  # the Hub's commit
    size: int | None = None


def agent() -> str:
    """Return who we say we are to a server: our name and version, and nothing of this machine."""
    return f"panderm/{version()}"


def words_of(error: object) -> str:
    """Return what an operating system or a library says of a failure."""
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def place_of(source: Source) -> Place:
    """Return where to ask for a file; of the Hub's files that takes a request.

    Raises:
        UsageError: gdown is missing.
        WeightsError: the Hub has no such file, or not for this user.
        RefusedError, UnreachedError: the Hub does not answer as it should.
    """
    if source.kind == "hub":
        return _on_the_hub(source)
    if source.kind == "drive":
        _require_gdown(source)
        return Place(_DRIVE.format(id=source.where), {})
    return Place(source.where, {})


def _on_the_hub(source: Source) -> Place:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    repository, _, named = source.where.partition("@")
    ours = {"user-agent": agent()}  # in the place of one that lists what is installed here
    url = hf_hub_url(repository, source.file, revision=named or None, endpoint=_HUB)
    try:
        found = get_hf_file_metadata(url, headers=ours)
    except Exception as error:
        refused_by_the_hub(error, source)
    revision = found.commit_hash or named or None
    # Of a large file the Hub's tag is its sha256; of a small one it is git's own hash.
    is_sha256 = re.fullmatch(r"[0-9a-f]{64}", found.etag or "")
    return Place(
        hf_hub_url(repository, source.file, revision=revision, endpoint=_HUB),
        {key.title(): value for key, value in build_hf_headers(headers=ours).items()},
        identity=found.etag,
        sha256=found.etag if is_sha256 else None,
        revision=found.commit_hash,
        size=found.size,
    )


def refused_by_the_hub(error: Exception, source: Source) -> NoReturn:
    from huggingface_hub import errors

    repository, _, revision = source.where.partition("@")
    page, login = f"https://huggingface.co/{repository}", "and sign in here with: hf auth login"
    if isinstance(error, errors.GatedRepoError):
        must, found = "the terms of a gated repository must be accepted.", f"{page} asks for that first"
        hint = f"accept them at {page} in a browser, {login}"
    elif isinstance(error, errors.RepositoryNotFoundError):
        must, found = "the repository must be on the Hub.", f"{page} is not there, or is private"
        hint = f"compare the name; for a private one ask its owners for access, {login}"
    elif isinstance(error, errors.RevisionNotFoundError):
        must, found = "the revision must be in the repository.", f"{page} has no revision {revision}"
        hint = f"see which there are at {page}/commits/main"
    elif isinstance(error, errors.EntryNotFoundError):
        must, found = "the file must be in the repository.", f"{page} has no file {source.file}"
        hint = f"see which there are at {page}/tree/{revision or 'main'}"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        raise UnreachedError("HF_HUB_OFFLINE is set", lasting=True) from error
    elif isinstance(error, errors.HfHubHTTPError):
        code, said = error.response.status_code, error.response.headers
        if code not in (401, 403):
            raise RefusedError(code, error.response.reason_phrase, said.get("Retry-After")) from error
        must, found = "you must be allowed to read the repository.", f"{page} answered {code}"
        hint = f"ask its owners for access, {login}"
    elif type(error).__module__.split(".")[0] in ("httpx", "httpx2", "requests"):
        lasting = type(error).__name__ in (
            "ConnectError",
            "ConnectTimeout",
            "ConnectionError",
            "ProxyError",
        )
        raise UnreachedError(words_of(error), lasting=lasting) from error
    else:
        raise error
    raise WeightsError(must, found, hint) from error


def _require_gdown(source: Source) -> None:
    try:
        import gdown  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "a download from Google Drive needs the package gdown.",
            f"it is not installed, and {source.file} lies there",
            f"pip install 'panderm[pull]'; or fetch the file by hand from {source.location} "
            "and name it with --weights FILE",
        ) from error


def behind_the_question(page: str) -> str | None:
    """Return the address behind Drive's question whether a file too big for its virus scan is wanted.

    None where the page is none of these: the quota is spent, or somebody must sign in.
    """
    from gdown.download import get_url_from_gdrive_confirmation
    from gdown.exceptions import FileURLRetrievalError

    try:
        return get_url_from_gdrive_confirmation(" ".join(page.split()))  # it reads a line at a time
    except (FileURLRetrievalError, KeyError, AssertionError):
        return None
