"""Static pages of the kept results that need no network: `python -m web.make`, in `benchmarks`.

A page of benchopt for each result, the result itself, and a front page.
"""

import argparse
import shutil
from pathlib import Path

from benchopt.benchmark import Benchmark
from benchopt.plotting.generate_html import OUTPUTS, get_results, render_all_results
from benchopt.plotting.helpers import reset_solver_styles
from benchopt.results import read_results

from .landing import landing
from .offline import check, offline, vendor

HERE = Path(__file__).parents[1]
RESULTS, SITE = HERE / "results", HERE.parent / "site"
# By the name of a result: its benchmark, and what its page is called.
PAGES = {
    "exact": ("benchmark_exact", "Posteriors that are known exactly"),
    "images": ("benchmark_images", "Pictures, each sample drawn by itself"),
    "populations": ("benchmark_images", "Pictures, populations of particles included"),
    "guidance": ("benchmark_guidance", "Tilted laws and guidance"),
}
# Views that say something of results with a number in a column only.
NEEDS = {"Gibbs sweeps": "objective_sweeps", "Quality against diversity": "objective_precision"}


def page(result: Path, site: Path) -> dict[str, str]:
    """Write benchopt's page of a result, and say how the front page links to it."""
    folder, title = PAGES[result.stem]
    benchmark = Benchmark(HERE / folder)
    config = benchmark.get_plot_config()
    frame = read_results(result)
    for view, column in NEEDS.items():
        if column in frame and frame[column].isna().all():
            config["plot_configs"].pop(view, None)
    found = get_results([result], site, benchmark, config, copy=True)
    # Styles are by order of appearance, and kept from page to page.
    reset_solver_styles()
    [html] = render_all_results(found, benchmark, home="index.html")
    html = offline(html).replace(f"Result on {benchmark.pretty_name}", title)
    (site / f"{result.stem}.html").write_text(html)
    return {"page": f"{result.stem}.html", "title": title, "data": found[0]["fname"]}


def main(results: Path, site: Path) -> None:
    """Write the site anew."""
    known = [results / f"{name}.parquet" for name in PAGES]
    known = [path for path in known if path.exists()]
    if not known:
        raise SystemExit(f"{results} holds none of {', '.join(PAGES)}.parquet; run the benchmark.")
    if site.exists() and not (site / "vendor").is_dir():
        raise SystemExit(f"{site} exists and is no site; give another folder with --out.")
    shutil.rmtree(site, ignore_errors=True)
    (site / OUTPUTS).mkdir(parents=True)
    vendor(site)
    links = [page(path, site) for path in known]
    (site / "index.html").write_text(landing(results, links))
    check(site)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=SITE)
    arguments = parser.parse_args()
    main(arguments.results, arguments.out)
