# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Every link of a page to another file, and to a section of one, leads somewhere."""

from pathlib import Path
import re

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')])


def sections(page: Path) -> set[str]:
    """Return the names by which sections of a page are linked, as GitHub makes them."""
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.M | re.S)
    titles = [re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', title)
              for title in re.findall(r'^#+ (.+)$', text, re.M)]
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if re.match(r'\w+:', link):
            continue
        name, _, section = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f'{link}: no such file'
        assert not section or section in sections(target), f'{link}: no such section'
