"""A map of embeddings: the page, the picture, and what colours it."""
