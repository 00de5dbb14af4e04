"""MkDocs hook: the page of docs/tutorial.ipynb, as stored, with the links, the theme and the checks of all other pages.

nbformat, which Jupyter maintains, reads the notebook. Plugins that render notebooks with Jupyter's own theme are not
used: their pages load scripts from the network, and MkDocs does not check their links.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOK, PAGE = "tutorial.ipynb", "tutorial.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page; the notebook itself stays a file to download."""
    notebook = nbformat.read(Path(config.docs_dir) / NOTEBOOK, as_version=4)
    files.append(File.generated(config, PAGE, content=to_markdown(notebook)))
    return files


def to_markdown(notebook: Any) -> str:  # noqa: ANN401
    """Convert the cells of a notebook and their outputs to Markdown; images are embedded."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        parts += [part for output in cell.outputs if (part := _shown(output))]
    parts.append(f"[The notebook]({NOTEBOOK}) of this page.")
    return "\n\n".join(parts) + "\n"


def _shown(output: Any) -> str | None:  # noqa: ANN401
    if output.output_type == "stream":
        return f'<div class="highlight"><pre><code>{html.escape(output.text.rstrip())}</code></pre></div>'
    image = output.get("data", {}).get("image/jpeg")
    if image is None:
        return None
    return f'<img alt="what the code above shows" src="data:image/jpeg;base64,{"".join(image.split())}">'
