# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The lockstep graph and SimEnv are the same environment, bit for bit."""

from pathlib import Path

from geometry_msgs.msg import PoseStamped
from harness import graph, make_bundle
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from rl_nodes.core.state_join import StateJoin
from rl_nodes.data.assembler import TransitionAssembler
from rl_nodes.data.reader import read_episode
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState

EPISODES = 20
SEED = 11


def recorded(folder: Path, task) -> tuple[list, np.ndarray]:
    """Return (transitions of each episode, rewards as float64 of each episode)."""
    batches, totals = [], []
    for path in sorted(folder.glob('episode_*.mcap')):
        assembler = TransitionAssembler(
            task.observe, lambda state, command: task.to_action(state, command.value),
            task.period_ns, observation_size=task.contract.observation.shape[0],
            action_size=task.contract.action.shape[0])
        join = StateJoin()
        mode, total = task.robot.config.control_mode, {}
        for message in read_episode(path).messages():
            if message.topic == 'goal':
                assembler.add_goal(conversions.msg_to_goal(
                    deserialize_message(message.data, PoseStamped)))
                continue
            if message.topic == 'safety/state':
                continue
            if message.topic == 'odom':
                joined = join.add_base(*conversions.odom_to_base(
                    deserialize_message(message.data, Odometry)))
                if joined is not None:
                    assembler.add_state(joined)
                continue
            msg = deserialize_message(message.data, JointState)
            if message.topic == 'joint_states':
                state = conversions.msg_to_state(msg, task.robot.joint_names)
                if task.robot.config.floating_base:
                    state = join.add_state(state)
                if state is not None:
                    assembler.add_state(state)
            elif message.topic == 'reward':
                stamp, episode, outcome = conversions.msg_to_outcome(msg)
                assembler.add_reward(stamp, episode, outcome)
                total[stamp] = outcome.total  # asked for again while the graph starts
            elif message.topic == 'joint_command':
                assembler.add_executed(conversions.msg_to_command(msg, mode)[1])
            else:
                assembler.add_wanted(conversions.msg_to_command(msg, mode)[1])
        assembler.flush()
        batches.append(assembler.take())
        totals.append(np.array(list(total.values())[1:]))  # the first state has earned nothing
    return batches, totals


@pytest.mark.parametrize(('robot', 'task_name', 'backend'), [
    ('arm', 'reach', 'pybullet'), ('cartpole', 'cartpole_balance', 'pybullet'),
    ('arm', 'reach', 'mujoco'), ('quadruped', 'quadruped_walk', 'pybullet'),
    ('quadruped', 'quadruped_stand', 'mujoco')])
def test_same_seed_and_policy_give_the_same_bits(tmp_path: Path, robot: str, task_name: str,
                                                 backend: str) -> None:
    task = load_task(robot, task_name)
    bundle = make_bundle(task.contract)
    policy_path = bundle.save(tmp_path / 'policy.onnx')
    with graph('deploy', f'policy:={policy_path}', 'stepping:=lockstep',
               f'backend:={backend}', f'episodes:={EPISODES}', f'seed:={SEED}',
               f'run_dir:={tmp_path / "run"}') as run:
        assert run.wait(150) == 0, run.output

    batches, totals = recorded(tmp_path / 'run' / 'episodes', task)
    assert len(batches) >= EPISODES
    env, policy = SimEnv(robot, task_name, backend), PolicyRuntime(bundle)
    moved = 0.0
    for number in range(EPISODES):
        observation, _ = env.reset(seed=SEED if number == 0 else None)
        batch, length = batches[number], 0
        ended = False
        while not ended:
            row = length
            assert row < len(batch), f'episode {number} ends early in the graph'
            assert observation.tobytes() == batch.observation[row].tobytes()
            observation, reward, terminated, truncated, info = env.step(
                policy.act(observation).copy())
            assert np.float64(reward).tobytes() == totals[number][row].tobytes()
            assert observation.tobytes() == batch.next_observation[row].tobytes()
            assert (terminated, truncated) == (batch.terminated[row], batch.truncated[row])
            assert info['success'] == batch.success[row]
            assert info['limited'] == batch.limited[row]
            length += 1
            ended = terminated or truncated
        assert length == len(batch), f'episode {number} goes on in the graph'
        moved += float(np.abs(batch.next_observation - batch.observation).sum())
    assert moved > 1.0, 'a policy that does nothing proves nothing'
    env.close()
