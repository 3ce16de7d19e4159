"""The command line: one short function per verb; no logic."""

from panderm.cli.verbs import app, main

__all__ = ["app", "main"]
