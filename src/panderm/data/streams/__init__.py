"""Many images by number: folders, lists, tar shards; light in memory, each file read when it is asked for."""

from panderm.data.streams.opened import open_source as open_source
from panderm.data.streams.source import ImageSource as ImageSource
from panderm.data.streams.source import SourceRecord as SourceRecord
from panderm.data.streams.source import join as join
