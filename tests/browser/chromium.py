"""Which Chromium is driven, and how it is started."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from playwright.sync_api import Playwright

FLAGS = (
    "--no-sandbox",  # which root may not use
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = "no Chromium: install the package chromium, name one in CHROMIUM, or run `playwright install chromium`"


def find_chromium(playwright: Playwright) -> str | None:
    """The one named in CHROMIUM, else the system's, else Playwright's own; None where there is none of them."""
    candidates = [os.environ.get("CHROMIUM"), shutil.which("chromium"), shutil.which("google-chrome")]
    candidates.append(playwright.chromium.executable_path)
    return next((path for path in candidates if path and Path(path).exists()), None)
