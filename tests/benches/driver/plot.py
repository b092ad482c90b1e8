"""The plot: processor time of a record, a bar for each contender of each case, as SVG."""

from xml.sax.saxutils import escape

BAR, GAP, LEFT, WIDTH = 16, 10, 330, 420
COLOURS = {"Ottla": "#2a6f97", "drain": "#8d99ae"}


def plot(results):
    rows, y = [], 40
    pairs = [(case, who) for case, who in results.pairs() if results.median(case, who, "cpu_s")]
    for job in sorted({case.job for case, _ in pairs}):
        cases = list(dict.fromkeys(case for case, _ in pairs if case.job == job))
        costs = {
            (case, who): results.median(case, who, "cpu_s") / results.of(case, who)[0][0].records * 1e6
            for case, who in pairs
            if case.job == job
        }
        # Each job has its own scale: an object for each record costs a hundred times what a record costs otherwise.
        longest = max(costs.values())
        for case in cases:
            rows.append(f'<text x="10" y="{y + 12}" class="case">{escape(f"{job}: {case.title}")}</text>')
            y += BAR + 4
            for who in [who for other, who in costs if other == case]:
                cost = costs[case, who]
                length = max(1, cost / longest * WIDTH)
                colour = next((colour for start, colour in COLOURS.items() if who.startswith(start)), "#bc6c25")
                rows.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(who)}</text>')
                rows.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>')
                rows.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 12}">{cost:,.2f} µs</text>')
                y += BAR + 3
            y += GAP
    size = f'width="{LEFT + WIDTH + 120}" height="{y + 10}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">\n'
        "<style>.case{font-weight:bold}</style>\n"
        f'<rect width="100%" height="100%" fill="white"/>\n'
        '<text x="10" y="20" font-size="15">'
        "Processor time of a record (shorter is better; each job has its own scale)</text>\n"
        + "\n".join(rows)
        + "\n</svg>\n"
    )
