"""Compiles native/targets.c with the system's C compiler and hands out its functions.

Without a compiler `library` is None and there are none.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import klqp

_I, _P = ctypes.c_int64, ctypes.c_void_p
_FLAGS = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]


@functools.cache
def library():
    """Return the compiled library, or None."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    source = Path(__file__).parent / "native" / "targets.c"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "targets.so"
        command = [compiler, *_FLAGS, f"-I{klqp.get_include()}", source, "-o", target, "-lm"]
        if subprocess.run(command, capture_output=True).returncode != 0:
            return None
        return ctypes.CDLL(str(target))  # stays mapped when the file is gone


class NativeTarget:
    """The C twin of a target of targets.py, which must stay alive."""

    def __init__(self, target):
        self._target, self._data = target, target.native_data()
        self._function = getattr(library(), target.native)
        self._function.restype = ctypes.c_int
        self._function.argtypes = [_I, _I, _I, _P, _P, _P, _P]
        self.log_density = klqp.NativeLogDensity(self._function, ctypes.pointer(self._data))

    def repeat(self, times, z):
        """Call the function `times` times at z (S, D), from C."""
        n, d = z.shape
        logp, grad = np.empty(n), np.empty((n, d))
        repeat = library().repeat
        repeat.restype, repeat.argtypes = None, [_P, _I, _I, _I, _P, _P, _P, _P]
        function = ctypes.cast(self._function, _P)
        arrays = [array.ctypes.data for array in (z, logp, grad)]
        repeat(function, times, n, d, *arrays, ctypes.addressof(self._data))
        return logp, grad
