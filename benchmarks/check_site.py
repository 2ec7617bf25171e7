"""Open the pages of a site in a browser without network: `python benchmarks/check_site.py [SITE]`.

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

SITE = Path(__file__).parent.parent / "site"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# No address resolves but the one that the page reports to.
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--no-first-run"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# Seconds for a page, and how often it is opened: on a busy machine a browser sometimes hangs as it starts.
PATIENCE, ATTEMPTS = 90.0, 3
# Before all other scripts.
LISTEN = """<script>
const errors = [];
addEventListener('error', event => errors.push(
  event.message || `${event.target.src || event.target.href} does not load`), true);
addEventListener('unhandledrejection', event => errors.push(String(event.reason)));
console.error = (...words) => errors.push(words.join(' '));
</script>"""
# What is seen: marks of curves, cells of tables, pictures.
VISIT = """<script>
const shown = {};
const wait = time => new Promise(done => setTimeout(done, time));
const seen = query => [...document.querySelectorAll(query)].filter(
  found => found.getClientRects().length && found.naturalWidth !== 0);
const count = async () => {
  for (let k = 0; k < 50; k++) {
    await wait(100);
    const parts = seen('#plot_container .main-svg .points path, tbody td, #image_container img');
    if (parts.length) return parts.length;
  }
  return 0;
};
const visit = async () => {
  await wait(500);
  for (const view of document.querySelectorAll('#view-tabs span')) {
    setConfig(view);
    shown[view.textContent] = await count();
    for (const select of seen('select[id^=change_]'))
      for (const option of select.options) {
        select.value = option.value;
        select.dispatchEvent(new Event('change'));
        await wait(20);
      }
  }
  if (!Object.keys(shown).length) shown.page = await count();
};
addEventListener('load', () => visit().catch(error => errors.push(String(error))).then(
  () => fetch('ADDRESS', {method: 'POST', mode: 'no-cors', body: JSON.stringify({errors, shown})})
));
</script>"""


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
    """Check a copy of a site.

    Raises:
        SystemExit: A page has an error, or shows nothing.
    """
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
