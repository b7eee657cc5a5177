"""The layers that the figures are drawn from: anchors, matching, pyramid, heads, decoding."""
