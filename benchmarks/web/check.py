"""Open the pages of a site in a browser without network: `python benchmarks/web/check.py [SITE]`.

Every view is opened and every choice of it is made once; an error of the page, or a view with nothing in it, fails.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

SITE = Path(__file__).parents[2] / "site"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# No address resolves but the one that the page reports to.
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--no-first-run"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# Seconds for a page, and how often it is opened: on a busy machine a browser sometimes hangs as it starts.
PATIENCE, ATTEMPTS = 90.0, 3
# What a page is made to do: to note its errors, and to open its views and count what is seen in each.
LISTEN, VISIT = (
    (Path(__file__).parent / name).read_text() for name in ("listen.html", "visit.html")
)


class Listener(HTTPServer):
    """Gets what pages report, on a free port of this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reports: Queue[dict[str, Any]] = Queue()


class Handler(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    server: Listener

    def do_POST(self) -> None:
        """Keep the body of a request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self.server.reports.put(json.loads(body))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def visit(page: Path, browser: str, listener: Listener) -> dict[str, Any]:
    """The errors of a page, and how much is shown in each of its views; the page is changed."""
    address = f"http://127.0.0.1:{listener.server_port}"
    before, end, after = (
        page.read_text().replace("<head>", f"<head>{LISTEN}", 1).rpartition("</body>")
    )
    page.write_text(f"{before}{VISIT.replace('ADDRESS', address)}{end}{after}")
    for attempt in range(ATTEMPTS):
        profile = page.parent / f"{page.stem}-{attempt}.profile"
        command = [browser, *OPTIONS, f"--user-data-dir={profile}", page.resolve().as_uri()]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            return listener.reports.get(timeout=PATIENCE)
        except Empty:
            continue
        finally:
            # With the processes of its own.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    raise SystemExit(f"{page.name} was not read to its end, {ATTEMPTS} times in {PATIENCE:.0f} s.")


def main(site: Path) -> None:
    """Check a copy of a site: no page has an error, or shows nothing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"The pages were not opened: none of {', '.join(BROWSERS)} is installed.")
        return
    listener = Listener()
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(shutil.copytree(site, folder, dirs_exist_ok=True))
        for page in sorted(copy.glob("*.html")):
            report = visit(page, browser, listener)
            print(page.name, report["shown"], flush=True)
            if report["errors"]:
                raise SystemExit(f"{page.name} has errors: {report['errors'][:3]}")
            empty = [view for view, parts in report["shown"].items() if not parts]
            if empty:
                raise SystemExit(f"{page.name} shows nothing in {', '.join(empty)}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, nargs="?", default=SITE)
    main(parser.parse_args().site)
