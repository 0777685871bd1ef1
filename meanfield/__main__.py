"""Lets ``python -m meanfield`` stand for the command."""

from meanfield.cli import main

if __name__ == "__main__":
    main()
