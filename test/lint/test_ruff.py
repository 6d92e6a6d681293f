# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The linter has nothing to say."""

from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_ruff_is_clean():
    beside = Path(sys.executable).with_name('ruff')
    ruff = str(beside) if beside.exists() else shutil.which('ruff')
    if ruff is None:
        pytest.skip('ruff is not installed: it comes with the extra [dev]')
    result = subprocess.run([ruff, 'check', '--no-cache', '--output-format', 'concise', ROOT],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
