"""One page that shows what guidance rules drew, with the pictures inside."""

import base64
from typing import TYPE_CHECKING

from ..version import __version__
from .plan import CONVENTION, Drawing

if TYPE_CHECKING:
    from .generate_results import Results

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>posteria: {{ plan.title }}</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
figure { margin: 0 0 1rem; }
img { image-rendering: pixelated; max-width: 100%; border: 1px solid #8886; display: block; }
figcaption, .legend { font-size: .85rem; opacity: .8; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .15rem 1rem .15rem 0; vertical-align: top; text-align: left; }
td { font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: .7rem; }
</style>
</head>
<body>
<h1>{{ plan.title }}</h1>
<p>{{ plan.samples }} samples of label {{ plan.label }} raised to the power {{ plan.weight }},
p(x | c)^w p(x)^(1 - w), from the prior <b>{{ plan.prior }}</b>
{%- if plan.rules | length > 1 %}, of each rule on the same seeds{% endif %}.</p>
{% for figure in figures %}
<figure><img src="{{ figure.src }}" alt="{{ figure.caption }}">
<figcaption>{{ figure.caption }}</figcaption></figure>
{% endfor %}
<h2>Numbers</h2>
<div class="wide"><table>
{% if heads %}<tr>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr>{% endif %}
{% for row in rows %}<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% for line in legend %}<p class="legend">{{ line }}</p>
{% endfor %}
<h2>What was run</h2>
<table>
<tr><td>weights</td><td>{{ plan.prior }}, sha256 {{ plan.prior_sha256[:16] }}</td></tr>
{% for field, name in plan.models.items() %}<tr><td>{{ field }}</td><td>{{ name }}, sha256
{{ plan.models_sha256[field][:16] }}</td></tr>
{% endfor %}<tr><td>seeds</td><td>{{ plan.seeds[0] }} to {{ plan.seeds[-1] }}</td></tr>
<tr><td>convention</td><td>{{ convention }}</td></tr>
<tr><td>posteria</td><td>{{ version }}</td></tr>
</table>
{% for name, sampler in plan.samplers.items() %}<pre>{{ name }}: {{ sampler }}</pre>
{% endfor %}
<p>The same run again, from its record: <code>posteria generate --record run.json --out NEW</code></p>
</body>
</html>
"""


def write_report(plan: Drawing, results: "Results", pictures: dict[str, tuple[bytes, str]]) -> str:
    """The page, as HTML that needs no other file.

    Args:
        plan: What was drawn.
        results: The numbers.
        pictures: Bytes of PNG files, and their captions.
    """
    from jinja2 import Environment

    figures = [
        {
            "src": "data:image/png;base64," + base64.b64encode(content).decode(),
            "caption": caption,
        }
        for content, caption in pictures.values()
    ]
    heads, rows = results.table()
    template = Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    return template.render(
        plan=plan,
        figures=figures,
        heads=heads,
        rows=rows,
        legend=results.legend(),
        convention=CONVENTION,
        version=__version__,
    )
