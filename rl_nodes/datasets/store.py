# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Export to and import from a transition store, see ``data/transition_store.py``."""

from pathlib import Path

from rl_nodes.data.transition_store import TransitionStore, write_store
from rl_nodes.datasets.formats import Source


def write(output: Path, source: Source) -> int:
    """Write a store; return the number of transitions."""
    return write_store(output, source.contract, source.episodes)


def read(path: Path) -> Source:
    """Return what a store holds."""
    store = TransitionStore(path)
    return Source(store.contract, store.episodes())
