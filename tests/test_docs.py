"""The docs are fresh and whole: generated pages, links, the site, the heads of modules."""

import ast
import importlib.util
import os
import re
import subprocess
import sys

import pytest
from support import TOP

PAGES = [*sorted((TOP / "docs").rglob("*.md")), TOP / "CONTRIBUTING.md", TOP / "examples/README.md"]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate", TOP / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_fresh(generator):
    stale = [
        path.name
        for path, text in generator.pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "make docs-reference writes them anew"


def test_the_table_of_presets_is_fresh_in_both_readmes(generator):
    english = (TOP / "README.md").read_text(encoding="utf-8")
    assert generator.with_presets(english) == english, "make docs-reference writes it anew"
    korean = (TOP / "README.ko.md").read_text(encoding="utf-8")
    for row in generator.presets().splitlines()[2:]:
        assert row.rsplit("|", 2)[0] in korean


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_link_of_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None,
    reason="pip install 'batchopt[docs]'",
)
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},  # an advertisement
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "My effective batch is 64" in home
    from_elsewhere = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', home)
    assert [address for address in from_elsewhere if "canonical" not in address] == []


def test_every_module_opens_with_what_it_owns():
    folders = ("src", "analysis", "benchmarks", "examples", "docs", "tests")
    for path in (path for folder in folders for path in (TOP / folder).rglob("*.py")):
        head = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert head, f"{path.relative_to(TOP)} has no head"
        assert len(head) > 20, path


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in {"log.md", "decisions.md"}],  # these are dated
    ids=lambda page: str(page.relative_to(TOP)),
)
def test_every_module_that_a_page_names_exists(page):
    folders = ("src", "analysis", "benchmarks", "examples", "docs", "tests")
    modules = [f"/{file}" for folder in folders for file in (TOP / folder).rglob("*.py")]
    for name in set(re.findall(r"\b([\w/]+\.py)\b", page.read_text(encoding="utf-8"))):
        assert any(module.endswith(f"/{name}") for module in modules), name
