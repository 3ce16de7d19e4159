"""A finished classifier: an encoder and its head in one weights file, and what it says of new images."""
