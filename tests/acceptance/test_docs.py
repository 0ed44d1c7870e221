"""The pages' Python blocks run, in order and in one namespace a page, and print what the pages say they print."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import klqp

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = (
    "index.md",
    "modelling.md",
    "tutorial.md",
    "diagnostics.md",
    "gradients.md",
    "from_edward.md",
    "threading.md",
    "many.md",
)
# A block of Python, and the block of output right after it if there is one.
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="docs/ is not beside the tests")


def same_output(shown: str, printed: str) -> bool:
    """Compare texts word by word, and numbers within 2 %, or 0.01, or one unit of their last digit."""
    if NUMBER.sub("#", " ".join(shown.split())) != NUMBER.sub("#", " ".join(printed.split())):
        return False
    for a, b in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True):
        last_digit = 10.0 ** -len(a.partition(".")[2])
        if abs(float(a) - float(b)) > max(0.02 * abs(float(a)), min(last_digit, 0.01)):
            return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_blocks(page, tmp_path, monkeypatch):
    """Warnings are errors here, as everywhere in these tests."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert blocks
    names = {"__name__": page}
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        code = compile("\n" * line + block[1], str(DOCS / page), "exec")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        shown = block[2] or ""
        assert same_output(shown, out.getvalue()), (
            f"the block at line {line + 1} of {page} prints\n{out.getvalue()}\nwhere the page shows\n{shown}"
        )


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    modules = {"optimizers": klqp.optimizers, "schedules": klqp.schedules}
    public = {name for name in klqp.__all__ if not name.startswith("_")}
    missing = [name for name in public if f"klqp.{name}" not in text]
    for module, contents in modules.items():
        listed = re.search(rf"automodule:: klqp\.{module}\n\s*:members:(.*)", text)[1].replace(",", " ").split()
        missing += [name for name in contents.__all__ if name not in (*listed, "Optimizer", "Schedule")]
    missing += [f"testing.{name}" for name in klqp.testing.__all__ if f"klqp.testing.{name}" not in text]
    assert not missing


def test_citations_of_the_formulas_exist():
    """Sources cite docs/maths.md by section number."""
    source = DOCS.parent / "csrc"
    if not source.exists():
        pytest.skip("csrc/ is not beside the tests")
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)", (DOCS / "maths.md").read_text(encoding="utf-8"), re.MULTILINE))
    files = [*source.rglob("*.[hci]*"), *(DOCS.parent / "klqp").rglob("*.py")]
    cited = [
        (path.name, number)
        for path in files
        for number in re.findall(r"maths\.md,?(?: sections?)? (\d+(?:\.\d+)?)", path.read_text(encoding="utf-8"))
    ]
    assert cited
    assert [c for c in cited if c[1] not in sections] == []
