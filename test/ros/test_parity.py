# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The lockstep graph and SimEnv are the same environment, bit for bit."""

from functools import partial
import json
from pathlib import Path

from harness import (
    graph,
    make_bundle,
    make_recurrent_bundle,
    make_spending_bundle,
    returning,
    sensing,
)
import numpy as np
import pytest
from rl_nodes.cli import main
from rl_nodes.core.resources import find_config
from rl_nodes.data.reader import read_episode
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions
from rl_nodes.nodes.joint_state import decode
from rl_nodes.nodes.recorded_transitions import read_recorded
from rl_nodes.tasks import load_task
from success_files import classified_task

SEED = 11


# What a robot with a floating base can be disturbed by, beside what reach_randomised has.
DISTURBED = """
randomisation:
  mass_scale: [0.8, 1.2]
  friction_scale: [0.5, 1.5]
  action_delay: [0.0, 1.5]
  observation_delay: [0.0, 1.5]
  noise: {joint_position: [0.0, 0.01], base_orientation: [0.0, 0.05],
          base_linear_velocity: [0.0, 0.1]}
  pushes: {every_s: [0.4, 0.8], impulse_n_s: [0.0, 6.0]}
history: {projected_gravity: 3}
privileged: [base_linear_velocity, joint_velocity, randomisation]
"""


def disturbed(folder: Path, task_name: str) -> str:
    """Return a shipped task with a section added."""
    path = folder / f'{task_name}_disturbed.yaml'
    path.write_text(find_config('tasks', task_name).read_text() + DISTURBED)
    return str(path)


def recorded(folder: Path, task) -> tuple[list, np.ndarray]:
    """Return (transitions of each episode, rewards as float64 of each episode)."""
    batches, totals = [], []
    for path in sorted(folder.glob('episode_*.mcap')):
        episode, total = read_episode(path), {}
        for message in episode.messages(('reward',)):
            stamp, _, outcome = conversions.msg_to_outcome(decode(message.data))
            total[stamp] = outcome.total  # asked for again while the graph starts
        batches.append(read_recorded(episode, task).batch)
        totals.append(np.array(list(total.values())[1:]))  # the first state has earned nothing
    return batches, totals


def rewarded_alike_offline(folder: Path, task_name: str, output: Path, episodes: int) -> None:
    """Compute the rewards anew and compare every bit of the first few episodes."""
    assert main(['dataset', 'relabel', str(folder), f'task:={task_name}',
                 f'output:={output}']) == 0
    for path in sorted(folder.glob('episode_*.mcap'))[:episodes]:
        found = [[message.data for message in read_episode(file).messages(('reward',))]
                 for file in (path, output / path.name)]
        assert found[0] == found[1]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(('robot', 'task_name', 'backend'), [
    ('arm', 'reach', 'pybullet'), pytest.param('arm', 'reach', 'mujoco', marks=SLOW),
    pytest.param('quadruped', 'quadruped_walk', 'pybullet', marks=SLOW), ('arm', 'push', 'mujoco'),
    ('rover', 'navigate', 'pybullet'),
    pytest.param('cartpole', 'cartpole_swingup_partial', 'pybullet', marks=SLOW),
    pytest.param('quadruped', 'disturbed', 'mujoco', marks=SLOW),
    pytest.param('arm', 'recurrent', 'mujoco', marks=SLOW),
    ('arm', 'sensing', 'mujoco'), pytest.param('arm', 'sensing', 'pybullet', marks=SLOW),
    ('arm', 'classified', 'mujoco'), pytest.param('arm', 'classified', 'pybullet', marks=SLOW),
    ('arm', 'returning', 'mujoco'), pytest.param('arm', 'returning', 'pybullet', marks=SLOW),
    pytest.param('cartpole', 'cartpole_balance', 'pybullet', marks=SLOW),
    pytest.param('cartpole', 'cartpole_balance_residual', 'mujoco', marks=SLOW),
    pytest.param('arm', 'push', 'pybullet', marks=SLOW),
    pytest.param('quadruped', 'quadruped_stand', 'mujoco', marks=SLOW),
    pytest.param('rover', 'navigate', 'mujoco', marks=SLOW),
    pytest.param('arm', 'reach_randomised', 'pybullet', marks=SLOW)])
def test_same_seed_and_policy_give_the_same_bits(tmp_path: Path, robot: str, task_name: str,
                                                 backend: str) -> None:
    if task_name == 'disturbed':
        task_name = disturbed(tmp_path, 'quadruped_stand')
    make = make_recurrent_bundle if task_name == 'recurrent' else make_bundle
    if task_name == 'recurrent':
        task_name = 'reach'
    if task_name == 'sensing':
        robot, task_name = sensing(tmp_path)
        make = partial(make_bundle, gain=0.5)  # accelerations are large numbers
    if task_name == 'returning':
        task_name, make = returning(tmp_path), make_spending_bundle
    if task_name == 'classified':
        task_name = classified_task(tmp_path, ', steps: 2, ends_episode: true', slope=20.0,
                                    reward='success_log_odds: 0.3, classified_success: 1.0')
    episodes = 20 if (robot, task_name) == ('arm', 'reach') else 5
    task = load_task(robot, task_name)
    bundle = make(task.contract)
    policy_path = bundle.save(tmp_path / 'policy.onnx')
    with graph('deploy', f'policy:={policy_path}', 'stepping:=lockstep',
               f'robot:={robot}', f'task:={task_name}', f'backend:={backend}',
               f'episodes:={episodes}', f'seed:={SEED}', f'run_dir:={tmp_path / "run"}') as run:
        assert run.wait(150) == 0, run.output

    batches, totals = recorded(tmp_path / 'run' / 'episodes', task)
    if task.success is not None:
        rewarded_alike_offline(tmp_path / 'run' / 'episodes', task_name, tmp_path / 'new',
                               episodes)
        assert any(batch.terminated.any() for batch in batches[:episodes]), 'no success'
    drawn = [json.loads(read_episode(path).metadata['randomisation'])
             for path in sorted((tmp_path / 'run' / 'episodes').glob('episode_*.mcap'))]
    assert len(batches) >= episodes
    env, policy = SimEnv(robot, task_name, backend), PolicyRuntime(bundle)
    moved = 0.0
    assert (batches[0].privileged is not None) == (task.contract.privileged is not None)
    for number in range(episodes):
        observation, info = env.reset(seed=SEED if number == 0 else None)
        policy.reset()
        batch, length = batches[number], 0
        assert drawn[number] == info.get('randomisation', {})
        ended = False
        while not ended:
            row = length
            assert row < len(batch), f'episode {number} ends early in the graph'
            assert observation.tobytes() == batch.observation[row].tobytes()
            if batch.privileged is not None:
                assert info['privileged'].tobytes() == batch.privileged[row].tobytes()
            observation, reward, terminated, truncated, info = env.step(
                policy.act(observation).copy())
            assert np.float64(reward).tobytes() == totals[number][row].tobytes()
            assert observation.tobytes() == batch.next_observation[row].tobytes()
            if batch.next_privileged is not None:
                assert info['privileged'].tobytes() == batch.next_privileged[row].tobytes()
            assert (terminated, truncated) == (batch.terminated[row], batch.truncated[row])
            assert info['success'] == batch.success[row]
            assert info['limited'] == batch.limited[row]
            length += 1
            ended = terminated or truncated
        assert length == len(batch), f'episode {number} goes on in the graph'
        moved += float(np.abs(batch.next_observation - batch.observation).sum())
    assert moved > 1.0, 'a policy that does nothing proves nothing'
    env.close()
