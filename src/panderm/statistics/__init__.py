"""Scores and their uncertainty: pure functions on numpy arrays; no files, no devices, no printing."""
