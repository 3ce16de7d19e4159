"""A page as PDF, printed by the browser of this machine without a window and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from panderm.errors import ArtifactError, UsageError
from panderm.storage import new_file

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "microsoft-edge-stable",
    "msedge",
)
# Where an installer puts them that leaves PATH alone.
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
OFFLINE = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_PRINT = (
    "--no-pdf-header-footer",
    "--export-tagged-pdf",  # for those who listen
    "--generate-pdf-document-outline",
)
_PATIENCE = 600  # seconds


def find_browser() -> str:
    """Return the first Chromium, Chrome or Edge on PATH, or where their installers put them.

    Raises:
        UsageError: there is none.
    """
    for name in NAMES:
        if found := shutil.which(name):
            return found
    for place in PLACES:
        if Path(place).is_file():
            return place
    raise UsageError(
        "--pdf needs Chromium, Chrome or Edge, which prints the page.",
        "found none of them on PATH",
        "install one (apt-get install chromium), or print the page from any browser",
    )


def print_pdf(page: Callable[[], str], target: Path, *, overwrite: bool = False) -> None:
    """Print a page to a PDF file, whole or not at all.

    Args:
        page: returns the page's HTML; asked once a browser is found.
        target: file to write.
        overwrite: replace it where it is there.

    Raises:
        UsageError: there is no browser.
        ArtifactError: the file exists and ``overwrite`` is not set, it cannot be written, or the browser
            failed.
    """
    browser = find_browser()
    with new_file(target, overwrite=overwrite) as temporary:
        # Beside the target: some browsers are shut off from the system's folder for temporary files.
        name = f".{target.name}.{os.getpid()}."
        with tempfile.TemporaryDirectory(".tmp", name, target.parent, ignore_cleanup_errors=True) as room:
            source, printed = Path(room) / "page.html", Path(room) / "page.pdf"
            source.write_text(page(), encoding="utf-8")
            said = _run([browser, *_flags(), f"--user-data-dir={room}/profile", *_PRINT], source, printed)
            if not _is_whole(printed):
                raise ArtifactError(
                    "the browser must print the page.",
                    f"{browser} wrote no whole PDF: {said}",
                    "print the page from a browser with a window",
                )
            printed.replace(temporary)


def _flags() -> tuple[str, ...]:
    # Chromium refuses to run as root within its sandbox; the page is ours, and holds no script.
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return (*OFFLINE, "--no-sandbox") if root else OFFLINE


def _run(words: list[str], source: Path, printed: Path) -> str:
    """Run the browser and return the last it said."""
    try:
        done = subprocess.run(
            [*words, f"--print-to-pdf={printed.resolve()}", source.resolve().as_uri()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it had not ended after {_PATIENCE} seconds"
    except OSError as error:
        return error.strerror or str(error)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else f"it said nothing, and ended with {done.returncode}"


def _is_whole(file: Path) -> bool:
    if not file.is_file():
        return False
    held = file.read_bytes()
    return held.startswith(b"%PDF-") and b"%%EOF" in held[-32:]
