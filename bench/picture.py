"""The benchmark as a picture: an SVG written by hand."""

from html import escape
from pathlib import Path

from bench.report import TITLES, Report

WIDTH = 760
LEFT = 250
RIGHT = 110
ROW = 34
BAR = 20
TOP = 64
FONT = "font-family='system-ui, sans-serif'"
BASE_COLOUR, COLOUR = "#9aa4b2", "#3b6fd4"


def draw(found: Report) -> str:
    """Bars of the medians, with a tick for each run, and the latencies as text."""
    names = [name for name in TITLES if name in found.medians]
    most = max([run.per_second for run in found.runs], default=1.0)
    scale = (WIDTH - LEFT - RIGHT) / most
    parts = [_text(20, 30, "Deliveries per second", size=18, weight="600")]
    note = f"{found.machine['cores']} cores, {found.seconds_per_run:g} s a run, median of each"
    parts.append(_text(20, 50, note, size=12, colour="#667085"))
    y = TOP
    base = found.medians.get("a")
    for name in names:
        median = found.medians[name]
        colour = BASE_COLOUR if name == "a" else COLOUR
        parts.append(_text(20, y + 15, f"{name}  {TITLES[name]}", size=13))
        parts.append(
            f"<rect x='{LEFT}' y='{y}' width='{median * scale:.1f}' height='{BAR}' rx='3' "
            f"fill='{colour}'/>"
        )
        for run in found.runs:
            if run.name == name:
                x = LEFT + run.per_second * scale
                parts.append(
                    f"<path d='M{x:.1f} {y - 2}v{BAR + 4}' stroke='#1d2939' stroke-width='1.5'/>"
                )
        ratio = f"  ({median / base:.2f} a)" if base and name != "a" else ""
        parts.append(_text(LEFT + most * scale + 8, y + 15, f"{median:,.0f}{ratio}", size=12))
        y += ROW
    y += 10
    for one in found.latencies:
        line = (
            f"at {one.rate}/s accepted to received: p50 {one.accepted_p50:g} ms, "
            f"p99 {one.accepted_p99:g} ms (fdatasync p99 {one.fdatasync_p99:g} ms)"
        )
        parts.append(_text(20, y + 10, line, size=12, colour="#344054"))
        y += 20
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {y + 16}' "
        f"width='{WIDTH}' height='{y + 16}' {FONT}>\n"
        f"<rect width='100%' height='100%' fill='#ffffff'/>\n{body}\n</svg>\n"
    )


def save(found: Report, path: Path) -> None:
    """Write it to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draw(found))


def _text(
    x: float, y: float, text: str, *, size: int, weight: str = "400", colour: str = "#101828"
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}' "
        f"fill='{colour}'>{escape(text)}</text>"
    )
