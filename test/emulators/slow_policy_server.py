# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The policy server with chunks that take their time, as a large network's do.

``SLOW_POLICY_S``: how long each takes [s]; ``SLOW_POLICY_NEVER``: a file whose existence makes the
next one take for ever.
"""

import os
from pathlib import Path
import threading

import numpy as np
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes.policy_server import main

_answer = PolicyRuntime.answer


def answer(self: PolicyRuntime, observation: np.ndarray) -> np.ndarray:
    forever = threading.Event()
    forever.wait(float(os.environ['SLOW_POLICY_S']))
    if Path(os.environ['SLOW_POLICY_NEVER']).exists():
        forever.wait()
    return _answer(self, observation)


PolicyRuntime.answer = answer
main()
