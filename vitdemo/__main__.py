"""``python -m vitdemo``: see cli.py."""

import sys

from vitdemo.cli import main

if __name__ == "__main__":
    sys.exit(main())
