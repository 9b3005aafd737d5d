"""``python -m vitdemo``: see cli.py."""

from vitdemo.cli import main
from vitdemo.terminal import end_with

if __name__ == "__main__":
    end_with(main)
