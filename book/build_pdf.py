"""Print the book: LaTeX by Sphinx, PDF by latexmk with LuaLaTeX, into book/_build/pdf.

Jupyter Book's own LaTeX class is left out: it needs XeLaTeX and a gigabyte of fonts, and adds nothing here.
"""

import subprocess
import sys
from pathlib import Path

BOOK = Path(__file__).parent
OUT = BOOK / "_build" / "pdf"


def main() -> int:
    """Build the PDF, cells from the cache where they are in it."""
    tools = Path(sys.executable).parent
    OUT.mkdir(parents=True, exist_ok=True)
    subprocess.run([tools / "jupyter-book", "config", "sphinx", BOOK], check=True)
    text = (BOOK / "conf.py").read_text(encoding="utf-8")
    (BOOK / "conf.py").unlink()
    text = text.replace("'sphinx_jupyterbook_latex', ", "")
    text = text.replace("'references.bib'", repr(str(BOOK / "references.bib")))  # conf.py is elsewhere
    text += "latex_documents = [('index', 'kfqn_ref.tex', html_title, author, 'manual')]\n"
    (OUT / "conf.py").write_text(text, encoding="utf-8")
    latex = OUT / "latex"
    sphinx = [tools / "sphinx-build", "-b", "latex", "-c", OUT, "-d", OUT / "doctrees"]
    sphinx += ["-D", f"nb_execution_cache_path={BOOK / '_build' / '.jupyter_cache'}", BOOK, latex]
    subprocess.run(sphinx, check=True)
    latexmk = ["latexmk", "-lualatex", "-interaction=nonstopmode", "-halt-on-error", "-quiet", "kfqn_ref.tex"]
    subprocess.run(latexmk, check=True, cwd=latex)
    print(latex / "kfqn_ref.pdf")
    return 0


if __name__ == "__main__":
    sys.exit(main())
