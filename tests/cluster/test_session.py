"""Ray's state in this process: one run after another."""

from __future__ import annotations

import pytest

from panderm.cluster.session import _read_environment_again


def test_a_second_run_of_one_process_has_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    raylet = pytest.importorskip("ray._raylet")  # not before the tests that watch Ray being imported
    loader = raylet.AuthenticationTokenLoader.instance()
    seen = []
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for token in ("a" * 64, "b" * 64):
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
        _read_environment_again(alone=True)
        seen.append(loader.get_raw_token())
    monkeypatch.undo()
    _read_environment_again(alone=True)
    assert seen == ["a" * 64, "b" * 64]
