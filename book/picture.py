"""Draw the picture of the README and of the book's first page from results/: python book/picture.py

It shows the largest budget there is at which one depth has four weights of the rate or more.
"""

from pathlib import Path

from vaekit import figures, tidy
from vaekit.studies import rate_generalisation as study

TO = Path(__file__).resolve().parent / "images" / "rate_distortion.png"


def main() -> None:
    table = study.run(study.Settings.at("published"))
    candidates = [
        (label, depth, shown)
        for label, budget in tidy.budgets(table)
        for (_, depth), shown in budget.groupby(["n_train", "depth"])
        if shown["beta"].nunique() >= 4
    ]
    label, depth, shown = candidates[0]
    figure, axes = figures.panels(1, 1, width=6.4, height=4)
    figures.rate_distortion(shown, axes[0, 0])
    n_train = f"{shown['n_train'].iloc[0]:,}"
    axes[0, 0].set_title(f"{depth}-layer MLP on {n_train} training images: {label}", loc="left", fontsize=9)
    TO.parent.mkdir(exist_ok=True)
    figure.savefig(TO, dpi=150, metadata={"Software": None})
    print(TO)


if __name__ == "__main__":
    main()
