"""The gate: everything from outside is checked here and never again."""
