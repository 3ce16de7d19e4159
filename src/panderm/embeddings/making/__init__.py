"""From a table and an encoder to a folder: the one loop, and the processes that share it."""
