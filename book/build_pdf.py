"""Print the book: LaTeX by Sphinx, PDF by latexmk with LuaLaTeX, into book/_build/pdf.

Jupyter Book's own LaTeX class is left out: it needs XeLaTeX and a gigabyte of fonts, and adds
nothing here.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

BOOK = Path(__file__).parent
OUT = BOOK / "_build" / "pdf"
PACKAGES = (
    "texlive-luatex texlive-latex-extra texlive-fonts-recommended fonts-dejavu tex-gyre latexmk"
)


def _number(tex: Path) -> None:
    """Number chapters as the pages do: none on the front page, notation 0, letters for appendices.

    The pages of bibliography and index are left out: LaTeX sets both itself, at the end.
    """
    front, *chapters = re.split(r"(?=\\sphinxstepscope)", tex.read_text(encoding="utf-8"))
    chapters = [
        text for text in chapters if not re.search(r"{(bibliography|genindex)::doc}}\n", text[:400])
    ]
    front = front.replace(r"\chapter{", r"\section*{")
    front = front.replace(r"{\contentsname}{Chapter 0}", r"{\contentsname}{Contents}")
    appendix = next(i for i, text in enumerate(chapters) if "{neighbours::doc}}\n" in text[:400])
    body = [r"\setcounter{chapter}{-1}", *chapters[:appendix], r"\appendix", *chapters[appendix:]]
    tex.write_text("\n".join([front, *body]), encoding="utf-8")


def main() -> int:
    """Build the PDF, cells from the cache where they are in it."""
    missing = [tool for tool in ("lualatex", "latexmk") if shutil.which(tool) is None]
    if missing:
        need = " and ".join(missing)
        print(f"make pdf needs {need}. On Debian: apt-get install {PACKAGES}", file=sys.stderr)
        return 1
    tools = Path(sys.executable).parent
    OUT.mkdir(parents=True, exist_ok=True)
    subprocess.run([tools / "jupyter-book", "config", "sphinx", BOOK], check=True)
    text = (BOOK / "conf.py").read_text(encoding="utf-8")
    (BOOK / "conf.py").unlink()
    text = text.replace("'sphinx_jupyterbook_latex', ", "")
    text = text.replace(
        "'references.bib'", repr(str(BOOK / "references.bib"))
    )  # conf.py is elsewhere
    text += f"import sys\nsys.path.append({str(BOOK)!r})\n"  # api_members is not beside it either
    text += "author = author.replace('_', r'\\_')  # LaTeX from here on\n"
    text += "latex_documents = [('index', 'kfqn_ref.tex', html_title, author, 'manual')]\n"
    (OUT / "conf.py").write_text(text, encoding="utf-8")
    latex = OUT / "latex"
    sphinx = [tools / "sphinx-build", "-b", "latex", "-c", OUT, "-d", OUT / "doctrees"]
    sphinx += ["-D", f"nb_execution_cache_path={BOOK / '_build' / '.jupyter_cache'}", BOOK, latex]
    subprocess.run(sphinx, check=True)
    _number(latex / "kfqn_ref.tex")
    latexmk = [
        "latexmk",
        "-lualatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-quiet",
        "kfqn_ref.tex",
    ]
    subprocess.run(latexmk, check=True, cwd=latex)
    log = (latex / "kfqn_ref.log").read_text(encoding="utf-8", errors="replace")
    lost = sorted(set(re.findall(r"Missing character: There is no (\S+)", log)))
    if lost:  # LaTeX leaves such letters out and goes on
        print(f"letters that the fonts do not have: {' '.join(lost)}", file=sys.stderr)
    print(latex / "kfqn_ref.pdf")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
