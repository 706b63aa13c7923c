"""``python -m dynamite_widget.training``: the same as ``dynamite train``."""

import sys

from dynamite_widget.training.cli import main

if __name__ == "__main__":
    sys.exit(main())
