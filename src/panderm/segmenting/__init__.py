"""Masks of lesions: a decoder on an encoder's tokens, how one learns, and what it says of new images."""
