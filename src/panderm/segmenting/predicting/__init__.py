"""Masks of new images, whatever answers for the pixels: files at native size, resumable, memory bounded."""
