"""Embedding on Ray: on one machine or many, from files, object storage or Parquet, into the same store."""

from panderm.cluster.ray_engine import embed_with_ray as embed_with_ray
