"""`python -m fedcall` is `fedcall`."""

from fedcall.cli import main

main()
