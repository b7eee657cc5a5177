"""The loss functions, and the layers that carry them into the graph."""
