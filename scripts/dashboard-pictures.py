"""Draws what pictures::record recorded of the dashboards: dashboard-pictures.py RECORDING FOLDER. One PNG for each dashboard."""

import io
import json
import math
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402
from PIL import Image  # noqa: E402

matplotlib.rcParams.update({
    "font.size": 7, "axes.titlesize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
})
UNITS = {"s": "s", "ops": "/s", "reqps": "requests/s", "rowsps": "rows/s", "cpm": "/min", "percentunit": "of 1", "bytes": "bytes", "short": ""}
# Ids and addresses are the run's own.
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|127\.0\.0\.1:\d+")


def named(legend, metric, known):
    text = re.sub(r"\{\{ *(\w+) *\}\}", lambda found: metric.get(found[1], ""), legend)
    def short(found):
        kind = "replica" if ":" in found[0] else "env"
        of_kind = known.setdefault(kind, [])
        if found[0] not in of_kind:
            of_kind.append(found[0])
        return f"{kind} {of_kind.index(found[0]) + 1}"
    return ID.sub(short, text).strip()


def lines(panel, known):
    for target in panel["targets"]:
        for series in target["series"]:
            points = [(at, float(value)) for at, value in series["values"]]
            yield named(target["legend"], series["metric"], known), points


def draw(axes, panel, known, began):
    axes.set_title(panel["title"], loc="left", fontweight="bold")
    axes.set_ylabel(UNITS.get(panel["unit"], panel["unit"]))
    drawn = [(name, points) for name, points in lines(panel, known) if any(not math.isnan(value) for _, value in points)]
    if panel["type"] == "stat" and drawn:
        latest = [value for _, value in drawn[0][1] if not math.isnan(value)][-1]
        axes.text(0.5, 0.5, f"{latest:.3g}", transform=axes.transAxes, ha="center", va="center", fontsize=16)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    if panel["stacked"] and drawn:
        times = sorted({at for _, points in drawn for at, _ in points})
        values = [dict(points) for _, points in drawn]
        clean = [[0 if math.isnan(one.get(at, 0)) else one.get(at, 0) for at in times] for one in values]
        axes.stackplot([at - began for at in times], clean, labels=[name for name, _ in drawn], alpha=0.7)
    else:
        for name, points in drawn:
            axes.plot([at - began for at, _ in points], [value for _, value in points], label=name, linewidth=0.9)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("s")
    if 0 < len(drawn) <= 8:
        axes.legend(fontsize=5, frameon=False, loc="best")


def picture(dashboard, folder):
    panels = dashboard["panels"]
    columns, known = 3, {}
    rows = math.ceil(len(panels) / columns)
    times = [at for panel in panels for _, points in lines(panel, known) for at, _ in points]
    figure, grid = pyplot.subplots(rows, columns, figsize=(13, 2.3 * rows), squeeze=False, layout="constrained")
    for axes, panel in zip(grid.flat, panels):
        draw(axes, panel, known, min(times))
    for axes in list(grid.flat)[len(panels):]:
        axes.set_axis_off()
    figure.suptitle(dashboard["title"], fontweight="bold", fontsize=11)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=85)
    pyplot.close(figure)
    # A palette: a third of the size.
    Image.open(drawn).convert("RGB").quantize(200, dither=Image.Dither.NONE).save(folder / f"{dashboard['name']}.png", optimize=True)


for dashboard in json.loads(Path(sys.argv[1]).read_text()):
    picture(dashboard, Path(sys.argv[2]))
