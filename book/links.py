"""Check that each link within the project's own texts leads somewhere: book/*.md, notebooks/*.py and the front pages.

    python book/links.py        names each that does not, as file:line, and exits 1

Checked are links and pictures, {doc}, {download}, {ref}, {numref}, {eq} and {cite}, by the texts alone: no book need be
built. What lies on another host is not tried. A notebook's links start where its page stands, in book/studies/.
"""

import posixpath
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
FRONT = ("README.md", "CONTRIBUTING.md")  # as GitHub shows them: plain Markdown, whose headings are anchors

FENCE = re.compile(r" *(`{3,}|~{3,}|:{3,})(.*)")
OF_PROSE = re.compile(r":::|```+\{(figure|image|note|tip|warning|admonition|margin|sidebar|math|list-table)\}")
ROLE = re.compile(r"\{(\w[\w:-]*)\}(`+)(.+?)\2", re.DOTALL)
CODE = re.compile(r"(?<!`)(`{1,2})(?!`)[^`]+?\1(?!`)")
LINKS = (
    re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)"),
    re.compile(r"^\[(?!\^)[^\]\n]+\]: +(\S+)", re.MULTILINE),
    re.compile(r"^ *(?:`{3,}|:{3,})\{(?:figure|image)\} *(\S+)", re.MULTILINE),
)
LABEL = re.compile(
    r'^\((\S+)\)=$|^ *:(?:name|label): *(\S+)|\$\$ *\((\S+)\)|^# %%.*"figure":.*"name": "([^"]+)"', re.MULTILINE
)
HEADING = re.compile(r"^#{1,6} +(.+?)$", re.MULTILINE)


@dataclass
class Text:
    """A text of the project; `page` is its name in the book, "" on the front; `prose` is the file, its code blank."""

    file: str
    page: str
    prose: str

    def labels(self) -> set[str]:
        return {next(filter(None, found)) for found in LABEL.findall(self.prose)}

    def headings(self) -> set[str]:
        """The anchors of its headings on GitHub, which numbers those that are alike."""
        plain = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(self.prose)]
        return {f"{name}-{n}" if (n := plain[:i].count(name)) else name for i, name in enumerate(plain)}

    def links(self) -> Iterator[tuple[int, str, str]]:
        """(line, kind, target) of each; its kind is the name of a role, or "link"."""
        for found in ROLE.finditer(self.prose):
            named = re.search(r"<([^<>]+)>$", found[3].strip())
            for target in found[3].split(",") if found[1].startswith("cite") else [named[1] if named else found[3]]:
                yield self.prose.count("\n", 0, found.start()) + 1, found[1].partition(":")[0], target.strip()
        plain = CODE.sub(blank, ROLE.sub(blank, self.prose))
        for pattern in LINKS:
            for found in pattern.finditer(plain):
                yield plain.count("\n", 0, found.start()) + 1, "link", found[1]


def blank(found: re.Match) -> str:
    return re.sub(r"[^\n]", " ", found[0])


def without_listings(text: str) -> str:
    """Markdown line for line, its listings blank; a directive that holds prose is none."""
    lines: list[str] = []
    open_fences: list[tuple[str, bool]] = []  # (what opened it, whether it is a listing)
    for line in text.split("\n"):
        fence = FENCE.fullmatch(line)
        in_listing = bool(open_fences) and open_fences[-1][1]
        if fence and open_fences and fence[1].startswith(open_fences[-1][0]) and not fence[2].strip():
            open_fences.pop()
            line = ""
        elif fence and not in_listing:
            in_listing = not OF_PROSE.match(line.strip())
            open_fences.append((fence[1], in_listing))
        lines.append("" if in_listing else line)
    return "\n".join(lines)


def of_notebook(text: str) -> str:
    """The Markdown cells of a py:percent text, line for line, and the heads of all cells: they hold the captions."""
    lines, markdown = [], False
    for line in text.split("\n"):
        if head := line.startswith("# %%"):
            markdown = line.startswith("# %% [markdown]")
        lines.append(line if head else re.sub("^# ?", "", line) if markdown else "")
    return "\n".join(lines)


def texts(root: Path) -> list[Text]:
    found = [Text(name, "", (root / name).read_text()) for name in FRONT]
    for path in sorted((root / "book").glob("*.md")):
        found.append(Text(f"book/{path.name}", f"book/{path.stem}", path.read_text()))
    for path in sorted((root / "notebooks").glob("*.py")):
        found.append(Text(f"notebooks/{path.name}", f"book/studies/{path.stem}", of_notebook(path.read_text())))
    return [Text(text.file, text.page, without_listings(text.prose)) for text in found]


class Project:
    """What links can lead to."""

    def __init__(self, root: Path):
        toc = yaml.safe_load((root / "_toc.yml").read_text())
        self.root, self.texts = root, texts(root)
        self.pages = {toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])}
        self.labels = {label for text in self.texts if text.page for label in text.labels()}
        bib = (root / "book" / "references.bib").read_text()
        self.works = set(re.findall(r"^@\w+\{([^,\s]+),", bib, re.MULTILINE))

    def problems(self) -> list[str]:
        """Each link that leads nowhere, as file:line and what is wrong with it."""
        return [
            f"{text.file}:{line}: {target}: {problem}"
            for text in self.texts
            for line, kind, target in sorted(text.links())
            if (problem := self.problem(text, kind, target))
        ]

    def problem(self, text: Text, kind: str, target: str) -> str:
        path, _, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(text.page or text.file), path)).lstrip("/")
        there = not place.startswith("..") and (self.root / place).exists()
        match kind:
            case "cite" if target not in self.works:
                return "no entry of book/references.bib"
            case "ref" | "numref" | "eq" if target not in self.labels:
                return "no label of the book"
            case "doc" if place not in self.pages:
                return "no page of _toc.yml"
            case "download" if not there:
                return f"no file {place}"
            case "link" if not re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
                page = re.sub(r"\.(md|ipynb)$", "", place)
                if path and not (text.page and page in self.pages) and not there:
                    return f"no file {place}"
                return self.problem_of_anchor(text, path and place, page, anchor) if anchor else ""
        return ""

    def problem_of_anchor(self, text: Text, place: str, page: str, anchor: str) -> str:
        if text.page and not place:
            return "" if anchor in self.labels else "no label of the book"
        to = next((other for other in self.texts if other.file == place or other.page == page), None) if place else text
        there = to and (to.labels() if text.page else to.headings())
        return "" if there is None or anchor in there else f"no such anchor in {to.file}"


def main() -> int:
    found = Project(ROOT).problems()
    print("\n".join(found) or "every link within the texts leads somewhere")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
