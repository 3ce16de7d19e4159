"""Many datasets, many encoders, one table: what is asked, the cells, how they compare, and the files."""
