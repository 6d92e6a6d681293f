# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Every source file opens with the licence header."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('rl_nodes', 'launch', 'test', 'benchmarks')
COMMENTS = {'.py': '#', '.cpp': '//', '.hpp': '//', '.c': '//', '.h': '//'}
HEADER = ('Copyright 2026 rl_nodes contributors', 'SPDX-License-Identifier: Apache-2.0')


def sources():
    found = [ROOT / 'setup.py']
    for folder in FOLDERS:
        found += sorted(path for path in (ROOT / folder).rglob('*') if path.suffix in COMMENTS)
    return found


@pytest.mark.parametrize('path', sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_opens_with_the_licence_header(path):
    lines = path.read_text(encoding='utf-8').splitlines()
    if lines and lines[0].startswith('#!'):
        lines = lines[1:]
    comment = COMMENTS[path.suffix]
    assert lines[:2] == [f'{comment} {line}' for line in HEADER]


def test_licence_is_apache_2():
    text = (ROOT / 'LICENSE').read_text(encoding='utf-8')
    assert 'Apache License' in text
    assert 'END OF TERMS AND CONDITIONS' in text
