"""Where pictures come from: each kind of data, and what they share. No TensorFlow but for TFDS's."""

from kzoo.data.sources.opening import open_source
from kzoo.data.sources.slices import open_split
from kzoo.data.sources.source import Info, Source, Split

__all__ = ["Info", "Source", "Split", "open_source", "open_split"]
