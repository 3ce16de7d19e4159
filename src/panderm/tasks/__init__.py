"""The questions, one file each; they never import each other."""
