# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One thread of torch for everything that learns here."""

import pytest


@pytest.fixture(autouse=True)
def learns_on_one_thread(one_thread):
    """Ask for the fixture of that name, in each test."""
