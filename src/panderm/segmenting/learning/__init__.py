"""How a segmenter is trained: pairs, views, loss, the run and its page."""
