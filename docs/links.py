"""Replaces links to files outside docs/ by their text, because the site does not have them."""

import posixpath
import re


def on_page_markdown(markdown, page, **_):
    """Turns `[text](../conf/x.yaml)` into its text; mkdocs calls this for each page."""
    folder = posixpath.dirname(f"docs/{page.file.src_uri}")

    def outside(found):
        path = posixpath.normpath(posixpath.join(folder, found[2]))
        return found[0] if path.startswith("docs/") else found[1]

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)#]*)\)", outside, markdown)
