"""Pages for people: HTML that needs nothing from anywhere, so that MLflow shows it and a mail can carry it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

_STYLE = """
body {font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 1000px; margin: 2em auto; padding: 0 1em}
h1 {font-size: 1.5em} h2 {font-size: 1.15em; margin-top: 2em} .lead {font-size: 1.1em; background: #eef3f9;
padding: .8em 1em; border-left: 4px solid #2f6db5} table {border-collapse: collapse; margin: 1em 0}
th, td {text-align: left; padding: .25em .9em .25em 0; border-bottom: 1px solid #dde3ea; vertical-align: top}
td.number, th.number {text-align: right; font-variant-numeric: tabular-nums} .moved {color: #b3541e; font-weight: 600}
figure {margin: 1em 0} figcaption {font-weight: 600} .plots {display: flex; flex-wrap: wrap; gap: 0 2em}
svg text {font: 11px system-ui, sans-serif; fill: #52606d} .before {fill: #b0b7c3} .now {fill: #2f6db5}
"""
_ROW, _LABEL, _BAR = 17, 150, 260  # pixels: height of a row, width of its label, width of the longest bar


def document(title: str, lead: str, parts: Iterable[str]) -> str:
    """A page: title, the sentence that matters, and its parts, which are HTML already."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<p class="lead">{escape(lead[:1].upper() + lead[1:])}.</p>{"".join(parts)}</body></html>'
    )


def text(plain: str) -> str:
    """Text as HTML."""
    return escape(plain)


def section(title: str, *parts: str) -> str:
    """A heading and what follows it."""
    return f"<h2>{escape(title)}</h2>{''.join(parts)}"


def table(header: list[str], lines: Iterable[list[str]], marked: Iterable[bool] = ()) -> str:
    """A table; cells that look like numbers stand to the right, marked lines stand out."""
    marks = list(marked)
    body = "".join(
        f"<tr{' class=moved' if marks and marks[at] else ''}>{''.join(_cell('td', cell) for cell in line)}</tr>"
        for at, line in enumerate(lines)
    )
    return f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr>{body}</table>"


def _cell(kind: str, text: str) -> str:
    number = text.strip("-+$%.,").replace(",", "").replace(".", "").isdigit()
    return f"<{kind}{' class=number' if number else ''}>{escape(text)}</{kind}>"


def bars(title: str, shares: Mapping[str, tuple[float, float]]) -> str:
    """Two bars per name: the share of rows before, and now."""
    longest = max((share for pair in shares.values() for share in pair), default=0) or 1
    parts = []
    for at, (name, pair) in enumerate(shares.items()):
        top = at * 2 * _ROW
        parts.append(f'<text x="{_LABEL - 8}" y="{top + _ROW + 3}" text-anchor="end">{escape(name)}</text>')
        for below, (kind, share) in enumerate(zip(("before", "now"), pair, strict=True)):
            y, width = top + below * (_ROW - 4) + 2, share / longest * _BAR
            parts.append(f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_ROW - 5}"/>')
            parts.append(f'<text x="{_LABEL + width + 5:.1f}" y="{y + _ROW - 7}">{share:.1%}</text>')
    height, width = len(shares) * 2 * _ROW, _LABEL + _BAR + 50
    drawing = f'<svg width="{width}" height="{height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawing}</figure>"
