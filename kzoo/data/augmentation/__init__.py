"""Pictures changed at random, and with them what is in them."""

from kzoo.data.augmentation.augmentation import Augmentation, augment

__all__ = ["Augmentation", "augment"]
