"""`python -m kzoo` is `kzoo`."""

from kzoo.cli import main

main()
