"""Weights files: fetch them, keep them, read them without running anything, account for every tensor."""
