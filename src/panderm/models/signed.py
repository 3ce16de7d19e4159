"""A record in the header of a weights file, signed: one that was edited by hand is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from panderm.errors import UsageError, WeightsError
from panderm.provenance import Record, version
from panderm.storage import sha256_of_json


class SignedRecord(Record):
    """What a file says of more than its encoder.

    Attributes:
        panderm: the version that wrote it.
        sha256: over all else, so that a record edited by hand is seen.
    """

    panderm: str = ""
    sha256: str = ""

    def own_sha256(self) -> str:
        """Return what ``sha256`` must be."""
        return sha256_of_json(self.model_dump(mode="json", exclude={"sha256"}))

    def signed(self, *, noun: str) -> Self:
        """Return the record with this version and its sha256.

        Args:
            noun: whose record it is, for messages: ``a classifier``.

        Raises:
            UsageError: a value that JSON cannot hold.
        """
        made = self.model_copy(update={"panderm": version()})
        try:
            made = made.model_copy(update={"sha256": made.own_sha256()})
            json.dumps(made.model_dump(mode="json"), allow_nan=False)
        except (TypeError, ValueError) as error:  # pydantic's own is a ValueError
            raise UsageError(f"the record of {noun} must be JSON.", str(error)) from None
        return made

    def text(self) -> str:
        """Return it as the JSON that a header holds."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, allow_nan=False)

    @classmethod
    def read(cls, text: str, path: Path, *, noun: str, hint: str) -> Self:
        """Read one from a header's JSON.

        Args:
            text: the JSON.
            path: of the file, for messages.
            noun: whose it is: ``a classifier's file``.
            hint: what to do where it is not sound.

        Raises:
            WeightsError: not whole, of another version, or changed since it was written.
        """
        try:
            record = cls.model_validate_json(text)
        except ValidationError as error:
            raise WeightsError(
                f"the record in {noun} must be whole and of this version of panderm.",
                f"{path}: {problem_of(error)}",
                hint,
            ) from None
        if record.sha256 != record.own_sha256():
            raise WeightsError(
                f"the record in {noun} must be the one that was written into it.",
                f"{path}: it was changed afterwards",
                hint,
            )
        return record


def problem_of(error: ValidationError) -> str:
    """Return the first problem of a record in words."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where + ': ' if where else ''}{problem['msg'].removeprefix('Value error, ')}"
