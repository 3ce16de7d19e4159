"""What is measured of a lesion, from its image and its mask."""
