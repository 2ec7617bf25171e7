"""One page that shows a run, with its pictures inside."""

import base64
from typing import TYPE_CHECKING

from ..version import __version__
from .plan import CONVENTION

if TYPE_CHECKING:
    from .restore import Job
    from .results import Results

PAGE = """<!doctype html>
<html lang="en"> <head> <meta charset="utf-8"> <meta name="viewport" content="width=device-width,
initial-scale=1"> <title>posteria: {{ plan.task }} of {{ plan.input_name }}</title> <style> :root {
color-scheme: light dark; } body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin:
2rem auto; padding: 0 1rem; } h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem;
} .row { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; max-width: 100%; } .row
figure { width: 192px; } img { image-rendering: pixelated; max-width: 100%; border: 1px solid
#8886; display: block; } .row img { width: 192px; } figcaption { font-size: .85rem; opacity: .8; }
table { border-collapse: collapse; } td { padding: .15rem 1rem .15rem 0; vertical-align: top; }
td:last-child { font-variant-numeric: tabular-nums; } pre { white-space: pre-wrap; overflow-wrap:
anywhere; background: #8881; padding: .7rem; } .remark { border-left: 4px solid #d97706;
padding-left: .8rem; } </style> </head> <body> <h1>{{ plan.task }} of {{ plan.input_name }}</h1>
<p>{{ plan.samples }} samples of what the picture may have been, given the measurement and the
prior <b>{{ plan.prior }}</b>{% if plan.label is not none %} with label {{ plan.label }}{% endif
%}.</p> {% if remark %}<p class="remark">{{ remark }}</p>{% endif %} <div class="row"> {% for
figure in small %}<figure><img src="{{ figure.src }}" alt="{{ figure.caption }}"> <figcaption>{{
figure.caption }}</figcaption></figure> {% endfor %}</div> <h2>Samples</h2> <figure><img src="{{
sheet.src }}" alt="{{ sheet.caption }}"> <figcaption>{{ sheet.caption }}, seeds {{ plan.seeds[0] }}
to {{ plan.seeds[-1] }}</figcaption></figure> <h2>Numbers</h2> <table>{% for name, value in rows
%}<tr><td>{{ name }}</td><td>{{ value }}</td></tr> {% endfor %}</table> <h2>What was run</h2>
<table> <tr><td>task</td><td>{{ plan.task }}
{%- for name, value in plan.options.items() %}, {{ name }} {{ value }}{% endfor %}</td></tr> <tr><td>noise
level</td><td>{{ plan.sigma }} in data units; {{ convention }}</td></tr> <tr><td>input</td><td>{{
plan.input_kind }}, sha256 {{ plan.input_sha256[:16] }}</td></tr> <tr><td>posteria</td><td>{{
version }}</td></tr> </table> <pre>{{ plan.sampler }}</pre> <p>The same run again, from its record:
<code>posteria restore --record run.json --out NEW</code></p> </body> </html>
"""


def write_report(job: "Job", results: "Results", pictures: dict[str, tuple[bytes, str]]) -> str:
    """The page, as HTML that needs no other file."""
    from jinja2 import Environment

    def figure(name: str) -> dict[str, str]:
        content, caption = pictures[name]
        src = "data:image/png;base64," + base64.b64encode(content).decode()
        return {"src": src, "caption": caption}

    small = [name for name in pictures if "/" not in name and name != "samples.png"]
    template = Environment(autoescape=True).from_string(PAGE)
    return template.render(
        plan=job.plan,
        rows=results.rows(job.plan.sigma),
        remark=results.remark(),
        small=[figure(name) for name in small],
        sheet=figure("samples.png"),
        convention=CONVENTION,
        version=__version__,
    )
