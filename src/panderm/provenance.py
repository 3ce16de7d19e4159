"""Who made a file, with what: the card every artifact carries."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panderm.errors import ArtifactError
from panderm.storage import sha256_of_json, write_json

CARD_NAME = "card.json"
_PACKAGES = ("numpy", "pandas", "pillow", "pyarrow", "scikit-learn", "timm", "torch", "torchvision")


class Record(BaseModel):
    """A frozen, JSON-able record; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Provenance(Record):
    """Version, command, time and machine behind an artifact."""

    panderm: str
    command: str
    created: str = Field(description="UTC, ISO 8601")
    seconds: float | None = Field(default=None, description="wall-clock seconds of the work itself")
    versions: dict[str, str]
    machine: str

    @classmethod
    def now(cls, *, seconds: float | None = None) -> Provenance:
        """Describe this process."""
        return cls(
            panderm=version(),
            command=command(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=None if seconds is None else round(seconds, 3),
            versions={"python": platform.python_version()} | _installed(),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        )


def version() -> str:
    """Return the version of this package."""
    return importlib.metadata.version("panderm")


def _installed() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def command() -> str:
    """Return the command line as typed, or ``"python"`` where the package is used as a library."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else ""
    if program == "__main__.py" and Path(sys.argv[0]).parent.name == "panderm":
        program = "panderm"
    if program != "panderm":
        return "python"
    return shlex.join(["panderm", *sys.argv[1:]])


class Card(Record):
    """What an artifact is and where it came from. ``identity`` covers all but time and machine."""

    kind: str
    format: int
    provenance: Provenance

    @property
    def identity(self) -> str:
        """Hex SHA-256 over everything that decides the content: never over times or machines."""
        return sha256_of_json(self.decisive())

    def decisive(self) -> dict[str, Any]:
        """Return the part of the card that decides the artifact's content."""
        return self.model_dump(mode="json", exclude={"provenance"})

    def write(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write ``card.json`` into an artifact's folder."""
        write_json(folder / CARD_NAME, self.model_dump(mode="json"), overwrite=overwrite)


_C = TypeVar("_C", bound=Card)


def read_card(folder: Path, kind: type[_C], noun: str, hint: str | None = None) -> _C:
    """Open ``folder/card.json`` as a card of one kind.

    Raises:
        ArtifactError: no such folder, no card, another kind of artifact, or a damaged card.
    """
    path = folder / CARD_NAME
    expected = kind.model_fields["kind"].default
    if not path.is_file():
        found = f"{folder} has no {CARD_NAME}" if folder.is_dir() else f"found no folder {folder}"
        if folder.is_file():
            found = f"{folder} is a file"
        raise ArtifactError(f"{noun} must be a folder that panderm wrote.", found, hint or _maker(expected))
    try:
        content = path.read_bytes()
        return kind.model_validate_json(content)
    except OSError as error:
        found = f"{path} cannot be read ({error.strerror})"
    except ValidationError as error:
        found = _other_kind(content, expected) or _first_problem(error)
        found = f"{folder} {found}"
    raise ArtifactError(f"{noun} must be a folder that panderm wrote.", found, hint or _maker(expected))


def _maker(kind: str) -> str:
    verbs = {"embeddings": "panderm embed", "predictions": "panderm probe"}
    return f"make it with: {verbs.get(kind, 'panderm')}"


def _other_kind(content: bytes, expected: str) -> str | None:
    try:
        card = json.loads(content)
    except ValueError:
        return None
    kind = card.get("kind") if isinstance(card, dict) else None
    return None if kind in (None, expected) else f"holds {kind}"


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if where == "format":
        return f"was written by another version of panderm ({CARD_NAME}: format {problem['input']})"
    return f"has a damaged {CARD_NAME}: {where + ': ' if where else ''}{problem['msg']}"
