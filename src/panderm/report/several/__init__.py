"""The page of several evaluations of the same rows, side by side."""
