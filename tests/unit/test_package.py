"""The package as it is installed: from where, with what, and how cheap to import."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import klqp

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_installed_package_is_tested_not_the_checkout():
    assert CHECKOUT / "klqp" not in Path(klqp.__file__).resolve().parents


def test_version_is_that_of_the_distribution():
    assert klqp.__version__ == metadata.version("klqp")


@pytest.mark.parametrize("name", ["py.typed", "_core.pyi", "_native.pyi", "native.pxd", "include/klqp/native.h"])
def test_files_that_other_tools_look_for(name):
    assert (Path(klqp.__file__).parent / name).is_file()


def test_public_names_exist():
    assert len(set(klqp.__all__)) == len(klqp.__all__)
    for name in klqp.__all__:
        assert getattr(klqp, name) is not None


def test_import_brings_in_neither_scipy_nor_tqdm():
    code = (
        "import json, sys, numpy; before = set(sys.modules); import klqp;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    out = subprocess.run([sys.executable, "-P", "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    new = {name.split(".")[0] for name in json.loads(out.stdout)}
    assert not new & {"scipy", "tqdm", "matplotlib", "pandas", "sklearn"}


def test_the_stub_of_the_core_names_what_the_core_has():
    text = (Path(klqp.__file__).parent / "_core.pyi").read_text()
    for name in dir(klqp._core):
        if not name.startswith("__"):
            assert f"class {name}" in text or f"{name}:" in text or f"def {name}" in text, name
