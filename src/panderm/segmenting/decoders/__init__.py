"""Decoders: from an encoder's patch tokens to a score for every class at every place."""
