"""Embedding on Ray: on one machine or many, from files, object storage or Parquet, into the same store."""
