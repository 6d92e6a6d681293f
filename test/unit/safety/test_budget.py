# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Budgets of costs per episode."""

from dataclasses import replace

from limited_robots import make_robot, make_state
import msgspec
import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.safety_config import CostConfig, SafetyConfig
from rl_nodes.core.types import JointCommand
from rl_nodes.safety.budget import budgets_of
from rl_nodes.safety.gate import Judgement
from rl_nodes.safety.supervisor import Supervisor, Timeouts
from rl_nodes.safety.verdict import Level

MS = 1_000_000
LIMITED = {'name': 'fought', 'counts': 'limited', 'budget_s': 0.1}  # five periods of the arm
NEAR = {'name': 'low', 'counts': 'near', 'clearance_m': 0.03, 'budget_s': 0.1}


class Bench:
    """A supervisor that was cleared, one period after the other."""

    def __init__(self, **safety) -> None:
        self.robot = make_robot('arm', **safety)
        self.supervisor = Supervisor(self.robot, Timeouts(10.0, 10.0, 0.1, 0.0))
        self.period, self.episode, self.position = 0, '1@0', self.robot.home

    def command(self, step: float = 0.0):
        self.period += 1
        state = replace(make_state(self.robot, self.position, period=self.period),
                        episode=self.episode)
        self.supervisor.observe(state, state.stamp_ns)
        return self.supervisor.judge(self.robot.command_names, JointCommand(
            state.stamp_ns, 'p@1', self.position + step), state.stamp_ns, state.stamp_ns)

    def clear(self) -> str:
        return self.supervisor.clear(self.period * 20 * MS)

    def armed(self) -> 'Bench':
        self.command()
        assert self.clear() == ''
        return self


def test_an_episode_may_be_limited_for_as_long_as_its_budget() -> None:
    bench = Bench(costs=[LIMITED])
    for _ in range(10):
        bench.command(1.0)  # what a stopped robot is asked to do costs nothing
    bench.armed()
    assert [bench.command(1.0).level for _ in range(5)] == [Level.CLAMP] * 5
    assert bench.command().level == Level.PASS
    assert bench.supervisor.spent_s == {'cost/fought_s': 0.1}
    verdict = bench.command(1.0)
    assert (verdict.level, verdict.check) == (Level.STOP, 'cost/fought')
    assert '0.12 s of this episode, the budget is 0.1 s' in verdict.reason
    bench.command()
    assert 'the cause persists: fought' in bench.clear(), 'the episode has spent it'
    bench.episode = '2@1'
    bench.command()
    assert bench.clear() == ''
    assert bench.command().level == Level.PASS
    assert bench.supervisor.spent_s == {'cost/fought_s': 0.0}


def test_what_is_refused_costs_too_and_a_budget_may_hold() -> None:
    bench = Bench(costs=[LIMITED | {'verdict': 'hold'}], refuse=['velocity']).armed()
    assert [bench.command(1.0).check for _ in range(6)] == ['velocity'] * 6
    verdict = bench.command()
    assert (verdict.level, verdict.check) == (Level.HOLD, 'cost/fought')
    bench.episode = '2@1'
    assert bench.command().level == Level.PASS


def test_time_near_to_something_is_counted() -> None:
    bench = Bench(costs=[NEAR]).armed()
    for _ in range(10):
        assert bench.command().level == Level.PASS
    bench.position = np.array([0.0, 1.43, 0.9, 0.0, 0.0, 0.0])  # 18 mm above the table
    levels = [bench.command().level for _ in range(6)]
    assert levels[:5] == [Level.PASS] * 5, levels
    assert levels[5] == Level.STOP


@pytest.mark.parametrize(('level', 'cost_s'), [
    (Level.PASS, 0.0), (Level.CLAMP, 0.02), (Level.STOP, 0.02)])
def test_a_learner_is_told_what_one_command_costs(level: Level, cost_s: float) -> None:
    robot = make_robot('arm', costs=[LIMITED])
    cost, = budgets_of(robot)
    state = make_state(robot, robot.home, period=1)
    assert cost.cost_s(Judgement(level, 'velocity', '', robot.home), state) == cost_s


def test_near_needs_geometry() -> None:
    with pytest.raises(ConfigError, match='needs the section safety.geometry'):
        Bench(costs=[NEAR], geometry=None)


@pytest.mark.parametrize('wrong', [
    LIMITED | {'clearance_m': 0.1}, {**NEAR, 'clearance_m': 0.0}, LIMITED | {'budget_s': -1.0},
    LIMITED | {'counts': 'all'}, LIMITED | {'name': ''}, LIMITED | {'verdict': 'clamp'}])
def test_a_cost_that_makes_no_sense_is_refused(wrong) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, CostConfig)


def test_two_costs_have_two_names() -> None:
    with pytest.raises(msgspec.ValidationError, match='given twice: fought, fought'):
        msgspec.convert({'watchdog_s': 0.1, 'command_timeout_s': 0.1,
                         'costs': [LIMITED, LIMITED]}, SafetyConfig)
