"""The picture of growth: time and memory over the number of positions, one line for each contestant."""

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot, ticker  # noqa: E402  (after the backend is chosen)

# Okabe and Ito's colours, which the colour-blind tell apart; markers and dashes for whoever prints without colours.
STYLES = [
    dict(color="#0072B2", marker="o", linewidth=2.4),
    dict(color="#D55E00", marker="s", linestyle="--"),
    dict(color="#009E73", marker="^", linestyle="-."),
    dict(color="#CC79A7", marker="D", linestyle=":"),
    dict(color="#56B4E9", marker="v"),
    dict(color="#E69F00", marker="P"),
]
MODES = {"forward": "forward", "train": "forward and backward"}


def plot(path, title, lines):
    """Draws a grid of log-log plots: a row for each unit, a column for each mode.

    Args:
      path: of the .png.
      title: over all.
      lines: {unit: {(mode, label, size): value}}.
    """
    labels = list(dict.fromkeys(label for values in lines.values() for _, label, _ in values))
    modes = [mode for mode in MODES if any(mode == m for values in lines.values() for m, _, _ in values)]
    units = [unit for unit, values in lines.items() if values]
    if not units:
        return
    grid = (len(units), len(modes))
    inches = (5 * len(modes), 3.6 * len(units) + 0.9)
    figure, axes = pyplot.subplots(*grid, figsize=inches, squeeze=False, sharex=True, sharey="row")
    for row, unit in zip(axes, units, strict=True):
        for axis, mode in zip(row, modes, strict=True):
            for label, style in zip(labels, STYLES, strict=False):
                points = sorted((key[2], value) for key, value in lines[unit].items() if key[:2] == (mode, label))
                axis.plot([size for size, _ in points], [value for _, value in points], label=label, **style)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.grid(alpha=0.3)
            axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda size, _: f"{size:.0f}"))
            axis.tick_params(axis="x", labelrotation=30)
            axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        row[0].set_ylabel(f"{'time' if unit == 'ms' else 'peak memory'} ({unit})")
    for axis, mode in zip(axes[0], modes, strict=True):
        axis.set_title(MODES[mode])
    for axis in axes[-1]:
        axis.set_xlabel("positions N")
    figure.suptitle(title)
    handles, names = axes[0][0].get_legend_handles_labels()
    # Under the plots, where it covers nothing.
    figure.legend(handles, names, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.035 * -(-len(labels) // 3) + 0.01, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
