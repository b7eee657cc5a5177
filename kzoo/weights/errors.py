"""What is wrong with a file of weights."""


class WeightsError(ValueError):
    """A file of weights is broken, is another than it should be, or cannot be had."""
