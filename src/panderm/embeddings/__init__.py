"""Embeddings on disk: ``X.emb/`` holds Parquet files, one row per image, and ``card.json``."""

from panderm.embeddings.card import Decoding as Decoding
from panderm.embeddings.card import EmbeddingsCard as EmbeddingsCard
from panderm.embeddings.card import EncoderRecord as EncoderRecord
from panderm.embeddings.card import Engine as Engine
from panderm.embeddings.card import Part as Part
from panderm.embeddings.card import Precision as Precision
from panderm.embeddings.card import Source as Source
from panderm.embeddings.card import TokensRecord as TokensRecord
from panderm.embeddings.opened import Embeddings as Embeddings
from panderm.embeddings.opened import open_embeddings as open_embeddings
from panderm.embeddings.opened import require_one_encoder as require_one_encoder
from panderm.embeddings.opened import require_same_encoder as require_same_encoder
from panderm.embeddings.opened import require_same_table as require_same_table
from panderm.embeddings.parts import unreadable as unreadable
from panderm.embeddings.vectors import MappedVectors as MappedVectors
from panderm.embeddings.writer import EmbeddingsWriter as EmbeddingsWriter
