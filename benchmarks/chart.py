"""The bar chart of RESULTS.md and the READMEs, as plain SVG."""

from collections.abc import Mapping
from html import escape
from typing import Final

from benchmarks.measure import Figures
from benchmarks.variants import FLOOR

_WIDTH: Final = 760
_LEFT: Final = 190
_BAR: Final = 16
_GAP: Final = 18
_TOP: Final = 62
_LONGEST: Final = 20.0
"""A bar of more times the floor is cut; its number says how long it is."""

_LEGEND: Final = "floor: bare Starlette and asyncpg; tutorial: FastAPI with an ORM and response_model"

_STYLE: Final = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328 }
    .paper { fill: #ffffff } .quiet { fill: #59636e }
    .title { font-size: 15px; font-weight: 600 }
    .floor { fill: #8c959f } .PyAPI { fill: #0969da } .tutorial { fill: #bf8700 } .Airflow { fill: #cf222e }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc } .paper { fill: #0d1117 } .quiet { fill: #9198a1 }
      .floor { fill: #6e7681 } .PyAPI { fill: #4493f8 } .tutorial { fill: #d29922 } .Airflow { fill: #f85149 }
    }
"""


def draw(results: Mapping[str, Mapping[str, Figures]]) -> str:
    """CPU a request, the floor of each operation being 1: a group of bars for each."""
    lines: list[str] = []
    y = _TOP
    for operation, found in results.items():
        lines.append(f'<text class="title" x="8" y="{y + 13}">{escape(operation)}</text>')
        for name, figures in found.items():
            lines += _bar(name, figures, found[FLOOR], y)
            y += _BAR + 4
        y += _GAP
    title = "CPU of the service for one request; the floor is 1 (shorter is better)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}" role="img"'
        f' aria-label="{title}">\n<style>{_STYLE}</style>\n'
        f'<rect class="paper" width="{_WIDTH}" height="{y}" rx="6"/>\n'
        f'<text class="title" x="8" y="24">{title}</text>\n'
        f'<text class="quiet" x="8" y="43">{_LEGEND}</text>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def _bar(name: str, figures: Figures, floor: Figures, y: int) -> list[str]:
    ratio = figures.cpu / floor.cpu
    width = round((_WIDTH - _LEFT - 190) * min(ratio, _LONGEST) / _LONGEST)
    cut = "… " if ratio > _LONGEST else ""
    label = f"{cut}{name} {ratio:.1f} x, {figures.cpu / 1e3:.2f} ms"
    return [
        f'<rect class="{name}" x="{_LEFT}" y="{y}" width="{width}" height="{_BAR}" rx="2"/>',
        f'<text class="quiet" x="{_LEFT + width + 6}" y="{y + 13}">{escape(label)}</text>',
    ]
