"""A real browser without a window: what a page does in it, and what it asks for."""

import http.server
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-extensions",
)  # fmt: skip  # one flag after the other


class Site:
    """A server of this machine that hands out pages, and remembers what else it was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.asked: list[str] = []

    def __enter__(self) -> "Site":
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = site.pages.get(self.path)
                if page is None and self.path != "/favicon.ico":
                    site.asked.append(self.path)
                self.send_response(200 if page is not None else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write((page or "").encode())

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def opened(self, page: str) -> str:
        """The page's document as the browser has it after all has run."""
        self.pages["/page.html"] = page
        with tempfile.TemporaryDirectory() as profile:
            command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=3000"]
            command += ["--dump-dom", f"{self.address}/page.html"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.stdout, done.stderr[-2000:]
        return done.stdout

    def opened_file(self, path: Path) -> str:
        """The same for a page that lies in a file."""
        return self.opened(path.read_text(encoding="utf-8"))
