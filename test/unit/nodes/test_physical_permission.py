# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Whose commands let a physical robot go home and stay in its episode."""

from types import SimpleNamespace

import numpy as np
import pytest
from rl_nodes.core.types import JointCommand
from rl_nodes.nodes.bridge.physical import Physical
from rl_nodes.nodes.hardware_session import Phase


@pytest.mark.parametrize(('source', 'phase', 'permitted'), [
    ('p@1', Phase.WAITING, True), ('monitor', Phase.RUNNING, False),
    ('monitor/brake', Phase.RUNNING, True), ('monitor/brake', Phase.WAITING, False),
    ('teleop:anna', Phase.WAITING, True), ('teleop:anna/standby', Phase.WAITING, False),
    ('teleop:anna/standby', Phase.HOMING, False), ('teleop:anna/standby', Phase.RUNNING, True)])
def test_a_person_who_holds_no_deadman_does_not_send_the_robot_home(source, phase, permitted):
    bridge = object.__new__(Physical)
    bridge._session = SimpleNamespace(phase=phase)
    bridge._take(JointCommand(1, source, np.zeros(6)))
    assert (bridge._permit_at is not None) == permitted
