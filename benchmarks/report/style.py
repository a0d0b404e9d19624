"""The page's style sheet: light and dark, wide and narrow, screen and paper."""

from __future__ import annotations

from benchmarks.figures.palette import variables

STYLE = f"""
:root {{ color-scheme: light dark; --page: #fbfbfa; --mark: #e3eefa; --warn: #fff4d6; --warn-line: #d9a400;
  {variables(dark=False)} }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #16181c; --mark: #1d3450; --warn: #35290b; --warn-line: #a67c00;
    {variables(dark=True)} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; color: var(--ink); background: var(--page);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }}
h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .75rem; }}
h3 {{ font-size: 1rem; margin: 1.75rem 0 .5rem; }}
p {{ margin: .5rem 0; max-width: 46rem; }}
.assumptions {{ background: var(--warn); border-left: .3rem solid var(--warn-line); padding: .75rem 1rem;
  margin: 1.5rem 0; }}
ul {{ margin: .25rem 0; padding-left: 1.2rem; max-width: 46rem; }}
.assumptions ul {{ max-width: none; }}
li {{ margin: .35rem 0; }}
.wide {{ overflow-x: auto; border: 1px solid var(--grid); border-radius: .4rem; background: var(--paper); }}
.long .wide {{ max-height: 28rem; overflow-y: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: .86rem; overflow-wrap: normal; }}
th, td {{ padding: .35rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--grid); }}
tr:last-child td {{ border-bottom: 0; }}
th {{ color: var(--muted); font-weight: 600; vertical-align: bottom; }}
.long th {{ position: sticky; top: 0; background: var(--paper); }}
td.number {{ white-space: nowrap; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
table:not(.compact) td:first-child:not(.number) {{ min-width: 8rem; }}
.compact td {{ white-space: nowrap; }}
tr.chosen td {{ background: var(--mark); font-weight: 600; }}
tr.out td {{ color: var(--muted); }}
figure {{ margin: 1rem 0; }}
figure .card {{ background: var(--paper); border: 1px solid var(--grid); border-radius: .4rem; padding: .75rem; }}
figure svg {{ display: block; margin: 0 auto; width: 100%; max-width: 54rem; height: auto; }}
figure .narrow {{ display: none; }}
figcaption, .note {{ color: var(--muted); font-size: .88rem; margin: .5rem 0; max-width: 46rem; }}
details {{ margin: .75rem 0; }}
summary {{ cursor: pointer; margin: .5rem 0; }}
button {{ font: inherit; font-size: .88rem; color: var(--ink); background: var(--band); border: 1px solid var(--muted);
  border-radius: .3rem; padding: .3rem .8rem; cursor: pointer; }}
.said {{ color: var(--muted); font-size: .88rem; margin-left: .6rem; }}
.copy {{ margin: .5rem 0; max-width: none; }}
.printed {{ display: none; }}
@media screen and (max-width: 40rem) {{
  body {{ padding: 1rem .75rem 3rem; }}
  h1 {{ font-size: 1.35rem; }}
  figure .card {{ padding: .4rem; }}
  figure .narrow {{ display: block; }}
  figure .broad {{ display: none; }}
}}
@media print {{
  :root {{ color-scheme: light; --page: #ffffff; --mark: #e3eefa; --warn: #fff4d6; --warn-line: #d9a400;
    {variables(dark=False)} }}
  body {{ max-width: none; padding: 0; font-size: 10pt; }}
  button, .said {{ display: none; }}
  details::details-content {{ display: block; content-visibility: visible; height: auto; }}
  figure, tr, p, li {{ break-inside: avoid; }}
  h2, h3, summary, section > p {{ break-after: avoid; }}
  figure svg {{ max-height: 22cm; }}
  thead {{ display: table-header-group; }}
  figure .narrow {{ display: none; }}
  figure .broad {{ display: block; }}
  .wide, .long .wide {{ overflow: visible; max-height: none; border: 0; }}
  table {{ font-size: 7pt; }}
  td, th, .number, .compact td {{ white-space: normal; overflow-wrap: anywhere; padding: .15rem .25rem; }}
  th {{ position: static; }}
  .unprinted .wide {{ display: none; }}
  .unprinted .printed {{ display: block; }}
}}
"""
