"""Loops that learn: used by the tasks."""
