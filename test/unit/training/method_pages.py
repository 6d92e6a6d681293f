# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the pages say of metrics.

The section Metrics of a page has a table; the names are in the first column, as ``train/return``
or, with something to fill in, ``action/<index>``. Pages linked in that section count, too.
"""

from pathlib import Path
import re

from rl_nodes.core.resources import share_directory
from rl_nodes.runs.record import read_rows

DOCS = share_directory() / 'docs'


def undocumented(names: set[str], page: Path) -> set[str]:
    """Return those names that neither a page nor those it leads to have."""
    told = {name for each in with_linked(page) for name in own_names(each)}
    return {name for name in names if not matches(name, told)}


def never_written(names: set[str], page: Path) -> set[str]:
    """Return those names in the table of a page that are not among these."""
    return {name for name in own_names(page) if not any(matches(one, {name}) for one in names)}


def written_to(run_directory: Path) -> set[str]:
    """Return the names in the metrics of a run."""
    return {f'{row["kind"]}/{name}' for row in read_rows(run_directory / 'metrics.jsonl')
            for name in row if name not in ('kind', 'step', 'wall_s')}


def own_names(page: Path) -> set[str]:
    """Return the names in the table of metrics of a page."""
    rows = [row for row in metrics_section(page).splitlines() if row.startswith('| `')]
    return {name for row in rows for name in re.findall(r'`([^`]+)`', row.split(' | ')[0])}


def metrics_section(page: Path) -> str:
    """Return the section Metrics of a page, empty where it has none."""
    found = re.search(r'^## Metrics\n(.*?)(?=^## |\Z)', page.read_text(), re.M | re.S)
    return found.group(1) if found else ''


def with_linked(page: Path, seen: frozenset[Path] = frozenset()) -> set[Path]:
    """Return a page and those that its section Metrics leads to."""
    found = {page}
    for link in re.findall(r'\]\(([^)#]+\.md)', metrics_section(page)):
        path = (page.parent / link).resolve()
        if path not in seen | found:
            found |= with_linked(path, seen | found)
    return found


def matches(name: str, patterns: set[str]) -> bool:
    """Return whether one of the documented names stands for a written one."""
    return any(re.fullmatch(re.sub(r'<\w+>', '.+', pattern), name) for pattern in patterns)
