"""Bring an encoder's weights from the network: the licence first, then whole and checked files, or none.

What comes lands in a hidden folder beside the final one, is compared there with all that is known of it,
and gets its name only then.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from panderm.errors import PandermError, UsageError, WeightsError
from panderm.provenance import Record
from panderm.storage import flush, sha256_of_file, write_json
from panderm.weights.cache import (
    Held,
    Pulled,
    PulledFile,
    Source,
    alone,
    explain_cache_errors,
    folder_of,
    held,
    partial_of,
    read_if_whole,
    read_record,
    refuse_other,
    verify_file,
    write_record,
)
from panderm.weights.fetch import Fetch, Note

# Seconds before each new attempt; as many in a row may bring nothing.
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
_LICENCE_NAME = "licence.json"


def pull(
    name: str,
    sources: Sequence[Source],
    *,
    licence: str,
    citation: str,
    accept_licence: bool = False,
    ask: Callable[[str], bool] | None = None,
    inspect: Callable[[Path], None] | None = None,
    progress: bool = True,
    waits: Sequence[float] = WAITS,
) -> Held:
    """Download an encoder's files into the cache, once; what is there already is verified and returned.

    Args:
        name: the encoder's, as a user types it.
        sources: its files; the first is its weights.
        licence: shown by ``ask`` before anything is requested; once accepted it is not asked about again.
        citation: shown with it.
        accept_licence: the licence is accepted beforehand.
        ask: shows a text, the licence and a question, and returns whether the answer was yes.
        inspect: gets each downloaded file before it counts; raises WeightsError for a wrong one.
        progress: show a bar, and say for whom this process waits.
        waits: seconds before each new attempt after a break; after as many in a row without a new byte it
            gives up.

    Raises:
        UsageError: the licence was not accepted, or gdown is missing.
        WeightsError: no network, nothing (or something else) at the address, or not the recorded file.
        ArtifactError: no room on the disk, a folder that cannot be written, or a damaged record.
    """
    files = [source.file for source in sources]
    if not files or len(set(files)) < len(files):
        raise UsageError(
            f"{name} must have files to download, each under its own name.",
            f"found {', '.join(files) or 'none'}",
            "name a local file with --weights FILE",
        )
    found = _ready(name, sources)
    if found:
        return found
    accepted = _agree(name, licence, citation, accept_licence, ask)
    with alone(name, shown=progress) as partial:
        write_json(partial / _LICENCE_NAME, accepted.model_dump(), overwrite=True)
        # Read only now: another process may have brought some of it, or all.
        folder, record = folder_of(name), read_record(name)
        known = {file.source.file: file for file in record.files} if record else {}
        brought = []
        for source in sources:
            recorded = known.pop(source.file, None)
            if recorded and (folder / source.file).is_file():
                _compare(name, source, recorded)
                brought.append(recorded)
            else:
                brought.append(_bring(name, source, partial, recorded, inspect, waits, progress))
        others = [file for file in known.values() if (folder / file.source.file).is_file()]
        record = Pulled(name=name, licence=licence, accepted=accepted.accepted, files=tuple(brought + others))
        with explain_cache_errors(folder):
            write_record(record)  # first: a file without its record would be fetched again
            for file in files:
                if (partial / file).is_file():
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    (partial / file).replace(folder / file)
            flush(folder)
            shutil.rmtree(partial)
    return Held(folder, record)


class _Accepted(Record):
    licence: str
    accepted: str


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _ready(name: str, sources: Sequence[Source]) -> Held | None:
    """Return what is in the cache if it is all of these files, each as it was recorded."""
    found = held(name)
    if found is None:
        return None
    recorded = {file.source.file: file for file in found.record.files}
    if any(source.file not in recorded for source in sources):
        return None
    for source in sources:
        _compare(name, source, recorded[source.file])
    return found


def _compare(name: str, source: Source, recorded: PulledFile) -> None:
    """Raise WeightsError where a file in the cache has changed, or is not the one its card asks for."""
    path = folder_of(name) / source.file
    verify_file(name, path, recorded)
    if source.sha256 not in (None, recorded.sha256):
        raise WeightsError(
            "weights must be those their card names.",
            f"{path}: the card of {name} names sha256 {source.sha256[:12]}…, it has {recorded.sha256[:12]}…",
            f"delete the folder {folder_of(name)} and run: panderm models pull {name}",
        )


def _agree(
    name: str, licence: str, citation: str, accept_licence: bool, ask: Callable[[str], bool] | None
) -> _Accepted:
    """Return when the licence was accepted: now, or earlier for these very words."""
    record = read_record(name)
    if record and record.licence == licence:
        return _Accepted(licence=licence, accepted=record.accepted)
    earlier = read_if_whole(_Accepted, partial_of(name) / _LICENCE_NAME)
    if earlier and earlier.licence == licence:
        return earlier
    question = (
        f"The weights of {name} come under this licence: {licence}\nPlease cite: {citation}\nAccept it?"
    )
    if not accept_licence and not (ask and ask(question)):
        raise UsageError(
            f"the licence of {name} must be accepted before its weights are downloaded.",
            [f"licence: {licence}", f"please cite: {citation}"],
            "to accept it, add --accept-licence",
        )
    return _Accepted(licence=licence, accepted=_now())


def _bring(
    name: str,
    source: Source,
    partial: Path,
    recorded: PulledFile | None,
    inspect: Callable[[Path], None] | None,
    waits: Sequence[float],
    shown: bool,
) -> PulledFile:
    """Download one file into the partial folder and check it there; a wrong one is deleted."""
    arrived, address = partial / source.file, source.location
    fetch = Fetch(name, source, arrived, shown)
    with explain_cache_errors(arrived):
        if not arrived.is_file():  # else the process ended between its last byte and the checks
            arrived.parent.mkdir(parents=True, exist_ok=True)
            fetch.run(waits)
            flush(fetch.part)
            fetch.part.replace(arrived)
        size, sha256 = arrived.stat().st_size, sha256_of_file(arrived)
    note = read_if_whole(Note, fetch.note_path)
    wanted = source.sha256 or (note and note.sha256)
    try:
        if source.size not in (None, size):
            raise fetch.wrong_size(size, source.size)
        if wanted and sha256 != wanted:
            raise WeightsError(
                "a download must be the file that is known.",
                f"{address}: {source.file} is known to have sha256 {wanted[:12]}…, "
                f"what came has {sha256[:12]}…; it was deleted",
                "run the same command again; if it stays so, the file there was replaced: ask its authors",
            )
        if recorded:
            refuse_other(name, recorded, sha256, address)
        if inspect:
            inspect(arrived)
    except PandermError:
        arrived.unlink()
        fetch.discard()
        raise
    return recorded or PulledFile(
        source=source, size=size, sha256=sha256, at=_now(), revision=note.revision if note else None
    )
