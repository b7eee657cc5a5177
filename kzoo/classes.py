"""Numbers in place of a class. Classes are counted from 0, the background has none, and -1 fills up."""

from typing import Final

CROWD: Final = -2  # a region of objects that nobody told apart: neither object nor background
