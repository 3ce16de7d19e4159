"""Label efficiency: curves of a score over the labels it took, as page, figure and files."""
