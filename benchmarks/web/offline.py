"""Benchopt's pages without the network: what they load comes from npm once, and is put beside them.

Archives are checked against their hashes and kept in `build/vendor`, which git ignores.
"""

import hashlib
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

CACHE = Path(__file__).parents[2] / "build" / "vendor"


@dataclass(frozen=True)
class Package:
    """A package of npm that pages load files of: where pages look for them, by their path in the package."""

    name: str
    version: str
    sha256: str
    files: dict[str, str]

    @property
    def folder(self) -> str:
        """Its own, in `vendor`."""
        return f"{self.name}-{self.version}"


GRIDJS = "https://cdn.jsdelivr.net/npm/gridjs@6.2.0/"
GRIDJS_FILES = ("dist/gridjs.umd.js", "dist/theme/mermaid.min.css")
# Both under the MIT License, which goes with them.
PACKAGES = (
    Package(
        name="plotly.js-dist-min",
        version="2.12.1",
        sha256="9e533b7127a8e820a2cc755abe6500616bb1915e84090c6775e78a624f3374e9",
        files={"plotly.min.js": "https://cdn.plot.ly/plotly-2.12.1.min.js"},
    ),
    Package(
        name="gridjs",
        version="6.2.0",
        sha256="866be122453ff88b246b1d4411bf22a6c5b3f37356cbc94ad30210fa727fbeef",
        files={path: GRIDJS + path for path in GRIDJS_FILES},
    ),
)
# Left out: fonts, and the animation of benchopt's name, which loads a script of its own.
DROPPED = (
    re.compile(r"<link[^>]*//fonts\.[^>]*>\s*"),
    re.compile(r"<!-- Used for the brand animation -->.*?(?=<!-- Manage plot -->)", re.DOTALL),
    re.compile(r'(?<=id="brand" class=")hidden '),
)
# Of benchopt 1.10: cells with a standard error are sorted as text, small numbers are cut to 0, a logarithmic axis of
# less than a decade has no number, and bands are called quantiles.
MENDED = {
    ">Quantiles<": ">Standard errors<",
    """const [numA, numB] = [cellNumber(a), cellNumber(b)];
  if (numA !== null && numB !== null) {""": """const [numA, numB] = [a, b].map(cell => {
    const number = parseFloat(stripMarkup(cell));
    return isNaN(number) ? Infinity : number;
  });
  if (numA !== numB) {""",
    "return value.toFixed(tableFloatPrecision);": (
        "return Number(value.toPrecision(tableFloatPrecision));"
    ),
    "const dtick = Math.max(": "if (decades < 1.5) return;\n    const dtick = Math.max(",
}
STYLE = f"<style>\n{(Path(__file__).parent / 'offline.css').read_text()}</style>\n</head>"


def fetch(package: Package, cache: Path = CACHE) -> Path:
    """The archive of a package, from the cache or from npm."""
    archive = cache / f"{package.folder}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit(f"The pages need {package.folder} of npm, once; install npm.")
        cache.mkdir(parents=True, exist_ok=True)
        wanted = f"{package.name}@{package.version}"
        command = [npm, "pack", "--silent", "--pack-destination", str(cache), wanted]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        wrong = f"{archive} has the SHA-256 {found}, not {package.sha256}"
        raise SystemExit(f"{wrong}; remove it and start again.")
    return archive


def vendor(site: Path) -> None:
    """Put what pages load, and the licences, into a site."""
    for package in PACKAGES:
        folder = site / "vendor" / package.folder
        folder.mkdir(parents=True)
        with tarfile.open(fetch(package)) as archive:
            for path in (*package.files, "LICENSE"):
                source = archive.extractfile(f"package/{path}")
                if source is None:
                    raise SystemExit(f"{package.folder} holds no {path}; see offline.py.")
                (folder / Path(path).name).write_bytes(source.read())


def offline(html: str) -> str:
    """A page of benchopt 1.10 that loads from `vendor` and nothing else, and reads well."""
    for pattern in DROPPED:
        html = pattern.sub("", html)
    new = {
        address: f"vendor/{package.folder}/{Path(path).name}"
        for package in PACKAGES
        for path, address in package.files.items()
    }
    for old, text in {**new, **MENDED, "</head>": STYLE}.items():
        if old not in html:
            raise SystemExit(f"Pages of benchopt 1.10 have {old!r}; see offline.py.")
        html = html.replace(old, text)
    return html


class _References(HTMLParser):
    """Collects what a page loads, and where its links go."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "style":
                self.loads += addresses(value or "")
            elif name == "href" and tag == "a":
                self.links.append(value or "")
            elif name in {"href", "src", "srcset", "poster", "data", "xlink:href"}:
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.loads += addresses(data)


def addresses(css: str) -> list[str]:
    """What a style sheet loads."""
    return re.findall(r"""(?:url\(\s*|@import\s+)["']?([^"')\s]+)""", css)


def check(site: Path) -> None:
    """Refuse a site that loads anything of the network, or has a link to a page that is not there."""
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        text = path.read_text()
        page = _References(text if path.suffix == ".html" else f"<style>{text}</style>")
        loads, links = page.loads, page.links
        for address in loads:
            if re.match(r"(?:https?:)?//", address.strip()):
                raise SystemExit(f"{path} loads {address} of the network; see offline.py.")
        for address in (*loads, *links):
            # With a scheme, such as data:, or within the page.
            if re.match(r"[a-z]+:|#", address):
                continue
            if not (path.parent / unquote(address.partition("#")[0])).exists():
                raise SystemExit(f"{path} refers to {address}, which is not there.")
