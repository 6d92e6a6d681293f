# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One thread of torch for everything that learns here."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """More of them only wait for each other in networks of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
