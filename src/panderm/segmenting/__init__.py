"""Masks of lesions: an encoder and a decoder on its tokens, how one learns, and what it says of new images."""
