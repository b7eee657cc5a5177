"""From the name of data to batches."""

from kzoo.data.pipeline.loading import load

__all__ = ["load"]
