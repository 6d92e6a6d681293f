# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The grids as environments, and the command that solves them."""

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest
from rl_nodes.cli import main
from rl_nodes.core.errors import ConfigError
from rl_nodes.envs.grid_world import GRIDS, GridWorld


@pytest.mark.parametrize('grid', GRIDS)
def test_it_is_an_environment(grid):
    check_env(GridWorld(grid), skip_render_check=True)


@pytest.mark.parametrize('grid', GRIDS)
def test_probabilities_add_up(grid):
    for row in GridWorld(grid, slip=(0.2, 0.1)).P.values():
        for outcomes in row.values():
            assert sum(outcome[0] for outcome in outcomes) == pytest.approx(1.0)


def test_steps_follow_the_table():
    """From the cell left of the wall's end: north .8, west and east .1 each."""
    env = GridWorld('4x3')
    env.reset(seed=3)
    seen = []
    for _ in range(5000):
        env._state = 9  # third of the bottom row
        seen.append(env.step(0)[0])
    frequencies = np.bincount(seen, minlength=11) / len(seen)
    np.testing.assert_allclose(frequencies[[5, 8, 10]], [0.8, 0.1, 0.1], atol=0.02)


def test_exits_pay_when_they_are_left():
    env = GridWorld('4x3')
    env.reset(seed=0)
    env._state = 3
    assert env.step(2) == (3, 1.0, True, False, {})


def test_walls_and_edges_hold():
    env = GridWorld('4x3', slip=(0.0, 0.0))
    env.reset(seed=0)
    env._state = 4  # west of the wall
    assert env.step(1)[0] == 4
    assert env.step(3)[0] == 4


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="did you mean 'corners'"):
        GridWorld('corner')
    with pytest.raises(ConfigError, match='at most 1'):
        GridWorld('4x3', slip=(0.9, 0.2))


def test_command_prints_values_and_policy(capsys):
    assert main(['solve', 'env:=rl_nodes/GridWorldLiving-v0', 'discount:=1.0']) == 0
    printed = capsys.readouterr().out
    assert '0.85   0.89   0.93   1.00' in printed
    assert 'E  E  E  *\nN  #  N  *\nN  W  W  W' in printed


def test_command_solves_environments_of_gymnasium(capsys):
    assert main(['solve', 'env:=FrozenLake-v1', 'method:=policy_iteration',
                 'discount:=0.99']) == 0
    assert '    0      0.54       0' in capsys.readouterr().out


@pytest.mark.parametrize(('words', 'message'), [
    (['env:=CartPole-v1'], 'rl_nodes train'), (['method:=guess'], 'method'),
    (['env:=CartPole-v1', 'method:=sarsa'], 'Discrete'), (['discont:=1'], 'discount')])
def test_command_says_what_is_wrong(words, message, capsys):
    assert main(['solve', *words]) != 0
    assert message in capsys.readouterr().err


def test_help_names_every_option(capsys):
    assert main(['solve', '--help']) == 0
    assert 'step_decay' in capsys.readouterr().out


def test_registered_episodes_end(capsys):
    import rl_nodes.envs  # noqa: F401

    env = gymnasium.make('rl_nodes/GridWorldCorners-v0')
    env.reset(seed=0)
    env.unwrapped._state = 1
    for _ in range(200):
        truncated = env.step(0)[3]
    assert truncated
