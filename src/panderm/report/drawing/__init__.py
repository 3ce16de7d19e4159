"""Figures as functions: arrays in, SVG text out, in the colours of the page."""
