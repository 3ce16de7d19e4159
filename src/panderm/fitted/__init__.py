"""Probes after their fit: from an embedding to the probability of each class, and their one file."""

from panderm.fitted.attentive import FittedAttentive
from panderm.fitted.file import read_fitted, write_fitted
from panderm.fitted.linear import FittedLinear
from panderm.fitted.mlp import FittedMLP
from panderm.fitted.neighbours import FittedNeighbours
from panderm.fitted.probe import FittedProbe, Link
from panderm.fitted.prototypes import FittedPrototypes

__all__ = [
    "FittedAttentive",
    "FittedLinear",
    "FittedMLP",
    "FittedNeighbours",
    "FittedProbe",
    "FittedPrototypes",
    "Link",
    "read_fitted",
    "write_fitted",
]
