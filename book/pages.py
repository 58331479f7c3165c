"""The book's own Sphinx extension: pages ask no other host for anything, and every picture says what it shows.

- MathJax comes from the package sphinx-mathjax-offline: one file, SVG output, so no fonts to fetch, over http and file://.
- A picture without alt text is a warning, and warnings are errors.
- A page is read again where its contents changed, whatever the times of its file say.
- A notebook's page links its downloads, and has its decoders' weights and its figures' data beside it.
- Docstrings are prose with `code` and indented listings; autodoc gets them as the reStructuredText of just that.
"""

import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
from pathlib import Path

import downloads
import nbformat
from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)

MATHJAX = "tex-svg-full.js"


def configure(app, config):
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    config.html_static_path.append(str(Path(package.origin).parent / "static" / "mathjax" / MATHJAX))
    config.mathjax_path = MATHJAX
    config.html_theme_options["extra_footer"] = f"vaekit {importlib.metadata.version('vaekit')}"


def changed_pages(app, env, added, changed, removed):
    before = getattr(env, "page_contents", {})
    env.page_contents = {
        name: hashlib.sha256(Path(env.doc2path(name)).read_bytes()).hexdigest() for name in env.found_docs
    }
    return [name for name, content in env.page_contents.items() if before.get(name) != content]


def link_downloads(app, docname, source):
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".ipynb":
        source[0] = nbformat.writes(downloads.linked(path.stem, nbformat.reads(source[0], as_version=4)))


def copy_files(app, error):
    """What lies beside a page: Sphinx copies nothing that a page's own HTML names, scripts and data of figures."""
    beside = [] if error else sorted(Path(app.srcdir).glob("book/studies/*/*"))
    for path in (path for path in beside if path.suffix in (".js", ".csv")):
        copy = Path(app.outdir) / path.relative_to(app.srcdir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def require_alt_text(app, doctree, docname):
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            logger.warning("a picture without alt text: %s", image.get("uri", ""), location=image, type="pages")


def docstring_to_rst(app, what, name, obj, options, lines):
    """Rewrite a docstring in place: `x` becomes code, an indented listing a literal block, all else plain text."""
    out, listing, doctest = [], False, False
    for line, before in zip(lines, ["", *lines], strict=False):
        blank, indented = not line.strip(), line.startswith("    ")
        if indented and not listing and not before.strip():
            out += ["::", ""]
        listing = (indented and (listing or not before.strip())) or (blank and listing)
        doctest = not blank and (doctest or line.startswith(">>>"))
        out.append(line if listing or doctest else prose(line))
    lines[:] = out


def prose(line: str) -> str:
    """One line of text as reStructuredText: code in double backticks; mark-up escaped, but for *stress*."""
    text, *rest = re.split(r"(`+[^`]+`+)", line)
    out = [escaped(text)]
    for code, text in zip(rest[::2], rest[1::2], strict=True):
        out += [f"``{code.strip('`')}``", "\\ " if text[:1].isalnum() else "", escaped(text)]
    return "".join(out)


def escaped(text: str) -> str:
    parts = re.split(r"((?<!\w)\*\w[\w -]*\*(?!\w))", text)  # the odd ones are *stressed*
    return "".join(p if i % 2 else re.sub(r"[*|\\`]|(?<=\w)_(?!\w)", r"\\\g<0>", p) for i, p in enumerate(parts))


def skip_field_numbers(app, what, name, obj, skip, options):
    """Leave out what a NamedTuple says of its fields by itself: "Alias for field number 0"."""
    return skip or (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") or None


def readable_signature(app, what, name, obj, options, signature, returns):
    """Write a dataclass field's default factory as `...`: Sphinx cannot read `<factory>`, and would show raw types."""
    return (signature or "").replace("<factory>", "...") or signature, returns


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("config-inited", configure)
    app.connect("env-get-outdated", changed_pages)
    app.connect("source-read", link_downloads)
    app.connect("doctree-resolved", require_alt_text)
    app.connect("build-finished", copy_files)
    app.connect("autodoc-process-docstring", docstring_to_rst, priority=400)  # before napoleon reads "Args:"
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("autodoc-skip-member", skip_field_numbers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
