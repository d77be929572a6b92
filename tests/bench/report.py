"""What scripts/bench shows: the table, and the same as a plot."""
from html import escape

COLOURS = {"meshwrap": "#0b6e4f", "meshwrap tailnet": "#3fa77f", "wireguard-go": "#8a6fc0", "tailscaled TUN": "#d08c3f",
           "tailscaled userspace": "#c05a50", "loopback": "#b8b8b8"}
LABEL, BAR, WIDTH, LINE, GAP = 270, 370, 900, 14, 12


def show(value):
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def print_table(names, rows):
    """rows: (label, {name: value}, whether more is better)."""
    head = ["", *names, "better"]
    lines = [[label, *(show(values.get(name)) for name in names), "more" if more else "less"]
             for label, values, more in rows]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    for line in [head, ["-" * width for width in widths], *lines]:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                        for i, (cell, w) in enumerate(zip(line, widths))).rstrip())


def plot(title, names, rows):
    """An SVG: of each row one bar a system, as long as its share of the row's greatest."""
    body, y = [], 46
    for label, values, more in rows:
        shown = [(name, values[name]) for name in names if values.get(name) is not None]
        greatest = max((value for _, value in shown), default=0)
        if not greatest:
            continue
        body.append(f'<text x="{LABEL - 10}" y="{y + LINE - 4}" text-anchor="end" font-weight="bold">'
                    f'{escape(label)}</text><text x="{LABEL - 10}" y="{y + 2 * LINE - 4}" text-anchor="end" '
                    f'fill="#777">{"more" if more else "less"} is better</text>')
        for name, value in shown:
            length = max(1, BAR * value / greatest)
            body.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{LINE - 2}" '
                        f'fill="{COLOURS.get(name, "#888")}"/><text x="{LABEL + length + 5:.1f}" '
                        f'y="{y + LINE - 4}">{show(value)} {escape(name)}</text>')
            y += LINE
        y += max(0, 2 - len(shown)) * LINE + GAP
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif" '
            f'font-size="11"><rect width="100%" height="100%" fill="white"/><text x="12" y="24" font-size="14">'
            f'{escape(title)}</text>{"".join(body)}</svg>\n')
