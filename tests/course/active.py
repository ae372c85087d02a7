"""Kinds of active content, each harmless: all it does is leave a mark in the page, or ask a server
of this machine for a picture. Nothing here works against any software.
"""

import base64
from typing import Any

import nbformat

MARK = "document.documentElement.classList.add('ran-{}')"


def kinds(server: str) -> dict[str, str]:
    """Pieces of HTML by kind; each would leave a mark or visit the server if a browser acted on
    it.
    """
    mark = MARK.format
    visit = f"{server}/visited"
    data = base64.b64encode(f"<script>{mark('data')}</script>".encode()).decode()
    return {
        "script": f"<script>{mark('script')}</script>",
        "script-src": f"<script src='{visit}.js'></script>",
        "handler": f'<img src="x" onerror="{mark("handler")}">',
        "load": f'<body onload="{mark("load")}">',
        "style-handler": f'<style onload="{mark("style")}"></style>',
        "svg": f'<svg onload="{mark("svg")}"><circle r="4"/></svg>',
        "svg-script": f"<svg><script>{mark('svg-script')}</script></svg>",
        "svg-animate": f'<svg><animate onbegin="{mark("animate")}" attributeName="x"/></svg>',
        "math": f'<math><mtext><img src="x" onerror="{mark("math")}"></mtext></math>',
        "iframe": f'<iframe src="{visit}.html"></iframe>',
        "srcdoc": f'<iframe srcdoc="<script>parent.{mark("srcdoc")}</script>"></iframe>',
        "object": f'<object data="{visit}.html"></object>',
        "embed": f'<embed src="data:text/html;base64,{data}">',
        "picture": f'<img src="{visit}.png">',
        "picture-set": f'<picture><source srcset="{visit}.png"><img></picture>',
        "video": f'<video src="{visit}.mp4" autoplay></video>',
        "poster": f'<video poster="{visit}.png"></video>',
        "style": f"<style>body {{ background: url({visit}.png) }}</style>",
        "style-attribute": f'<p style="background: url({visit}.png)">text</p>',
        "import": f"<style>@import '{visit}.css';</style>",
        "link": f'<link rel="stylesheet" href="{visit}.css">',
        "prefetch": f'<link rel="prefetch" href="{visit}.html">',
        "base": f'<base href="{server}/">',
        "refresh": f'<meta http-equiv="refresh" content="0; url={visit}.html">',
        "form": f'<form action="{visit}.html"><input autofocus onfocus="{mark("focus")}"></form>',
        "details": f'<details open ontoggle="{mark("toggle")}">x</details>',
        "javascript-link": f'<a href="javascript:{mark("link")}" id="click-me">here</a>',
        "data-link": f'<a href="data:text/html;base64,{data}">here</a>',
        "template": f"<template><script>{mark('template')}</script></template>",
        "comment": f"<!--><script>{mark('comment')}</script-->",
        "broken": f"<scr<script>ipt>{mark('broken')}</scr</script>ipt>",
        "textarea": f"<textarea></textarea><script>{mark('textarea')}</script>",
        "close": f"</pre></code></div><script>{mark('close')}</script>",
        "entity": f"&lt;script&gt;{mark('entity')}&lt;/script&gt;",
    }


def in_markdown(server: str) -> list[str]:
    """Markdown that turns into something active: the kinds above, and Markdown's own."""
    mark = MARK.format
    own = [
        f"[here](javascript:{mark('md-link')})",
        f"![]({server}/visited-md.png)",
        f"<javascript:{mark('md-auto')}>",
        f"[x]: {server}/visited-ref.png\n\n![x]",
        f"$\\href{{javascript:{mark('tex')}}}{{x}}$",
        f"    <script>{mark('indented')}</script>",
        f"```\n</code></pre><script>{mark('fence')}</script>\n```",
        f"`</code><script>{mark('tick')}</script>`",
        f'| <script>{mark("cell")}</script> |\n|---|\n| <img src=x onerror="{mark("td")}"> |',
    ]
    return [*kinds(server).values(), *own]


def shown_by_code(server: str) -> str:
    """A cell that displays the kinds as HTML, SVG, LaTeX, JavaScript and a widget."""
    pieces = list(kinds(server).values())
    return f"""
from IPython.display import HTML, SVG, Javascript, Latex, Markdown, display
for piece in {pieces!r}:
    display(HTML(piece))
    print(piece)
display(Javascript({MARK.format("javascript")!r}))
display(SVG('<svg xmlns="http://www.w3.org/2000/svg" onload="' + {MARK.format("s")!r} + '"/>'))
display(Markdown({in_markdown(server)[0]!r}), Latex('x'))
bundle = {{"text/html": {pieces[0]!r}, "image/svg+xml": "<svg/>", "application/json": {{}}}}
bundle["application/vnd.jupyter.widget-view+json"] = {{"model_id": "x"}}
bundle["image/png"] = 'x"><script>' + {MARK.format("png")!r} + '</script>'
bundle["text/plain"] = {pieces[0]!r} + chr(27) + "]0;title" + chr(7)
display(bundle, raw=True)
raise ValueError({pieces[0]!r})
"""


def notebook(cells: list[Any], server: str) -> Any:
    """A notebook with the cells, and every active kind in text, code, outputs and metadata."""
    text = [nbformat.v4.new_markdown_cell(source) for source in in_markdown(server)]
    raw = [nbformat.v4.new_raw_cell(kinds(server)["script"], metadata={"format": "text/html"})]
    code = [nbformat.v4.new_code_cell(shown_by_code(server))]
    stored = nbformat.v4.new_code_cell("# shown before it was handed in")
    html = "".join(kinds(server).values())
    stored.outputs = [nbformat.v4.new_output("display_data", data={"text/html": html})]
    made = nbformat.v4.new_notebook(cells=[*cells, *text, *raw, *code, stored])
    made.metadata["title"] = kinds(server)["script"]
    made.metadata["language_info"] = {"name": '"><script>' + MARK.format("language") + "</script>"}
    made.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    return made
