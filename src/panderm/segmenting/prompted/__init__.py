"""Masks by a box or a point: models of the Segment Anything family behind the same answers."""
