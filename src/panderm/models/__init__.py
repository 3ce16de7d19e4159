"""The eye: pixels to vectors."""
