"""Errors, seen: the surest mistakes, what was learned near them, and where they lie together."""
