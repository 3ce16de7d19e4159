"""What is wrong with a table, and what gives its answer away, before any number is made."""
