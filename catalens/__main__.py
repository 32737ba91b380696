"""`python -m catalens` is `catalens`."""

from .cli import main

main()
