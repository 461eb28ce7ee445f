"""Where a stack is whose directory nobody names."""

from __future__ import annotations

import os
from pathlib import Path


def default_directory() -> Path:
    """The directory of the stack where none is named."""
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "cfm" / "default"
