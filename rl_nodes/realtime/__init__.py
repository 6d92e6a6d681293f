# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The control tick of the policy server in C++: states in, commands out, no interpreter in between.

``setup.py`` builds the extension where a compiler and ROS are found. Without it the policy server
answers in Python, by the same rules.
"""

from ctypes.util import find_library
from importlib import import_module
from pathlib import Path
from types import ModuleType

from rl_nodes.core.errors import ConfigError


def load() -> ModuleType:
    """
    Return the extension module.

    :raises ConfigError: it was not built, or does not fit the libraries here; says what to do.
    """
    try:
        return import_module('rl_nodes.realtime._control')
    except ImportError as error:
        raise ConfigError(f'the C++ control tick is not there ({error}); install a C++ compiler '
                          'and ROS 2, then install rl_nodes again') from None


def onnxruntime_library() -> Path:
    """
    Return the shared library with ONNX Runtime's C API: the wheel's, else the system's.

    :raises ConfigError: there is none.
    """
    from importlib.util import find_spec
    spec = find_spec('onnxruntime')
    folder = Path(spec.origin).parent / 'capi' if spec and spec.origin else Path()
    found = sorted(folder.glob('libonnxruntime.so*')) if spec else []
    system = find_library('onnxruntime')
    if not found and system is None:
        raise ConfigError('no libonnxruntime.so, neither in the package onnxruntime nor in the '
                          'system; install the wheel: pip install onnxruntime')
    return found[0] if found else Path(str(system))
