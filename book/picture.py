"""Draw the picture of the README and of the book's first page from results/: python book/picture.py

It shows the largest budget there is at which one depth has four weights of the rate or more.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from vaekit import figures
from vaekit.studies import rate_generalisation as study
from vaekit.studies.rate_generalisation.figures import training_sets

TO = Path(__file__).resolve().parent / "images" / "rate_distortion.png"


def draw(ax: Axes, rows: pd.DataFrame) -> None:
    figures.rate_distortion(rows, ax)


def main() -> None:
    table = study.run(study.Settings.at("published"))
    curves = [
        (label, depth, rows)
        for label, budget in training_sets(table)
        for depth, rows in budget.groupby("depth")
        if rows["beta"].nunique() >= 4
    ]
    label, depth, rows = curves[0]
    figure = figures.grid([(label, rows)], draw, {f"{depth}-layer MLP": {}}, width=6.4, height=4)
    TO.parent.mkdir(exist_ok=True)
    figure.savefig(TO, dpi=150, metadata={"Software": None})
    print(TO)


if __name__ == "__main__":
    main()
