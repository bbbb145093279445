"""The plot of what was measured."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt


def plot(result: dict[str, Any], file: Path) -> None:
    """Draw requests per second and latency against connections, for this template and the textbook."""
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "plot", "font.family": "sans-serif", "font.size": 9}
    figure, (rates, latencies) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    styles = {"this template": ("#0a7d5a", "o"), "the textbook": ("#b5482f", "s")}
    for name, rows in result["growth"].items():
        color, marker = styles[name.partition(",")[0]]
        style = {"color": color, "marker": marker, "linestyle": "-" if name.endswith("1 process") else "--"}
        connections = [row["connections"] for row in rows]
        rates.plot(connections, [row["rate"] for row in rows], label=name, **style)
        latencies.plot(connections, [row["p99"] for row in rows], label=name, **style)
    rates.set(title="POST /log/: requests per second", ylim=(0, None))
    latencies.set(title="POST /log/: 99 % are answered within so many ms", yscale="log")
    for axes in (rates, latencies):
        axes.set(xlabel="connections", xscale="log")
        axes.set_xticks(connections, [str(number) for number in connections])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    rates.legend(frameon=False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
