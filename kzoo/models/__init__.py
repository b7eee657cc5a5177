"""The models: one file an architecture, a builder in each that reads like the figure in its paper.

A new architecture is one new file here: a function with `@register(...)` above it. Nothing lists the files,
the registry reads this folder.
"""
