"""From rows of embeddings to predictions: what is fitted, what chooses, what is scored, and in that order."""
