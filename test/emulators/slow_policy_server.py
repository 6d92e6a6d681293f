# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The policy server with inference that takes its time, as a large network's does.

``SLOW_POLICY_S``: how long each chunk takes [s]; ``SLOW_POLICY_NEVER``: a file whose existence
makes every inference, of a chunk or of a single action, take as long as it says [s]; for ever
where it is empty.
"""

import os
from pathlib import Path
import threading
from typing import Any

import numpy as np
from rl_nodes.inference.actors import SingleActor
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes.policy_server import main

SWITCH = Path(os.environ['SLOW_POLICY_NEVER'])
_answer, _act = PolicyRuntime.answer, SingleActor.act
_forever = threading.Event()


def obey() -> None:
    if SWITCH.exists():
        _forever.wait(float(SWITCH.read_text() or threading.TIMEOUT_MAX))


def answer(self: PolicyRuntime, observation: np.ndarray) -> np.ndarray:
    _forever.wait(float(os.environ['SLOW_POLICY_S']))
    obey()
    return _answer(self, observation)


def act(self: SingleActor, *arguments: Any) -> np.ndarray | None:
    obey()
    return _act(self, *arguments)


PolicyRuntime.answer, SingleActor.act = answer, act
main()
