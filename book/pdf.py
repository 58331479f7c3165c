"""Print one page of the built book as PDF, through headless Chromium: any study, say rate_generalisation.

    python book/pdf.py PAGE [--html _build/html] [--to _build/PAGE.pdf]

What print looks like is book/static/book.css's matter: any browser's own print command gives the same.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BUILT = Path(__file__).resolve().parents[1] / "_build"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def address(html: Path, page: str) -> str:
    """The address of a page of the built book by its name, without folder and ending."""
    pages = {path.stem: path for path in html.glob("book/**/*.html")}
    if not pages:
        sys.exit(f"There is no built book in {html}: run make book first.")
    if page not in pages:
        sys.exit(f"{page} is no page of the book; there are {', '.join(sorted(pages))}.")
    return pages[page].as_uri()


def print_page(url: str, to: Path) -> None:
    """Write the PDF. Exits with what went wrong where there is no Chromium, or it fails."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        sys.exit("Chromium is not installed (Debian: apt-get install chromium); any browser can print the page, too.")
    with tempfile.TemporaryDirectory(prefix="vaekit-pdf-") as folder:
        written = Path(folder, "page.pdf")
        command = [program, "--headless=new", "--disable-gpu", f"--user-data-dir={folder}/profile"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command += ["--no-sandbox"]  # as root, in a container, Chromium does not start with it
        # Virtual time runs until the page rests: its formulas are set by a script.
        command += ["--no-pdf-header-footer", "--virtual-time-budget=30000", f"--print-to-pdf={written}", url]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            sys.exit(f"{program} did not end in five minutes: is the machine busy? Try again.")
        if result.returncode or not written.exists():
            sys.exit(f"{program} printed nothing (exit status {result.returncode}): {result.stderr.strip()[-500:]}")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(written, to)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Print one page of the built book as PDF, through headless Chromium.")
    parser.add_argument("page", help="a page by its name, e.g. rate_generalisation")
    parser.add_argument("--html", type=Path, default=BUILT / "html", help="the built book (_build/html)")
    parser.add_argument("--to", type=Path, help="the PDF (_build/PAGE.pdf)")
    chosen = parser.parse_args(arguments)
    to = chosen.to or BUILT / f"{chosen.page}.pdf"
    print_page(address(chosen.html.resolve(), chosen.page), to)
    print(f"The page as PDF: {to}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
