# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""RosEnv: the running graph as a Gymnasium environment, and what it says of missing nodes."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import gymnasium
from gymnasium.utils.env_checker import check_env
from harness import graph, returning
import numpy as np
import pytest
from rl_nodes.core.errors import ContractError, GraphError
from rl_nodes.data.reader import read_episode
from rl_nodes.envs.ros_env import RosEnv
from rl_nodes.envs.sim_env import SimEnv
from test_graph_faults import assert_closed

ARM = ('robot:=arm', 'task:=reach')


@contextmanager
def environment(*arguments: object, **options: object) -> Iterator[RosEnv]:
    """A client for the duration of a block."""
    env = RosEnv(*(arguments or ('arm', 'reach')), **options)
    try:
        yield env
    finally:
        env.close()


def gym_graph(folder: Path, *arguments: str) -> tuple[str, ...]:
    return ('gym', *(arguments or ARM), f'run_dir:={folder}')


def same(a: tuple, b: tuple) -> None:
    """Two answers of step(), bit by bit."""
    assert a[0].tobytes() == b[0].tobytes()
    assert np.float64(a[1]).tobytes() == np.float64(b[1]).tobytes()
    assert a[2:] == b[2:]


def test_gymnasium_check_and_the_same_bits_as_the_simulated_environment(tmp_path: Path) -> None:
    """Three episodes and seeded starts within an episode; the recorder sees the client's name."""
    with graph(*gym_graph(tmp_path / 'run', *ARM, 'record:=true')) as run:
        env = gymnasium.make('rl_nodes/Ros-v0', robot='arm', task='reach')
        simulated = SimEnv('arm', 'reach')
        try:
            rng = np.random.default_rng(5)
            for seed, steps in ((11, 10), (11, 400), (None, 400), (None, 400), (12, 5), (11, 5)):
                first, expected = env.reset(seed=seed), simulated.reset(seed=seed)
                assert first[0].tobytes() == expected[0].tobytes()
                for _ in range(steps):
                    action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
                    answer = env.step(action)
                    same(answer, simulated.step(action))
                    if answer[2] or answer[3]:
                        break
                assert steps < 400 or answer[2] or answer[3], 'the episode has no end'
            with pytest.warns(UserWarning, match='observation space'):
                check_env(env.unwrapped, skip_close_check=True)
        finally:
            env.close()
            env.close()
            simulated.close()
        run.interrupt()
        assert run.wait(10) == 0, run.output
    assert_closed(tmp_path / 'run' / 'episodes')
    assert any('gym@0' in read_episode(path).metadata['policy_versions']
               for path in (tmp_path / 'run' / 'episodes').glob('*.mcap'))


def test_what_is_left_to_be_earned_is_that_of_the_simulated_environment(tmp_path: Path) -> None:
    task = returning(tmp_path)
    with graph(*gym_graph(tmp_path / 'run', 'robot:=arm', f'task:={task}')), \
            environment('arm', task, arm=True) as env:
        simulated = SimEnv('arm', task)
        rng = np.random.default_rng(0)
        for seed in (3, None):
            assert env.reset(seed=seed)[0].tobytes() == simulated.reset(seed=seed)[0].tobytes()
            for _ in range(70):  # more than rewards are kept
                action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
                same(env.step(action), simulated.step(action))
        simulated.close()


def test_what_is_privileged_is_in_the_info(tmp_path: Path) -> None:
    task = 'cartpole_swingup_partial'
    with graph(*gym_graph(tmp_path / 'run', 'robot:=cartpole', f'task:={task}')), \
            environment('cartpole', task, arm=True) as env:
        simulated = SimEnv('cartpole', task)
        rng = np.random.default_rng(0)
        answers = [(env.reset(seed=3), simulated.reset(seed=3))]
        for _ in range(30):
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            answers.append((env.step(action), simulated.step(action)))
        simulated.close()
    for ours, theirs in answers:
        assert ours[-1]['privileged'].tobytes() == theirs[-1]['privileged'].tobytes()


def test_cartpole_limits_and_stops(tmp_path: Path) -> None:
    """Effort control; NaN stops the robot, which the next step and a reset without arming say."""
    with graph(*gym_graph(tmp_path / 'run', 'robot:=cartpole', 'task:=cartpole_balance')), \
            environment('cartpole', 'cartpole_balance', reset_timeout_s=20.0) as env:
        simulated = SimEnv('cartpole', 'cartpole_balance')
        assert env.reset(seed=3)[0].tobytes() == simulated.reset(seed=3)[0].tobytes()
        limited = set()
        for _ in range(40):
            answer = env.step(np.ones(1, np.float32))
            same(answer, simulated.step(np.ones(1, np.float32)))
            limited.add(answer[4]['limited'])
            if answer[2]:
                break
        assert answer[2]
        assert limited == {False}
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(np.ones(1, np.float32))  # the pole has fallen
        env.reset(seed=4)
        poisoned = env.step(np.full(1, np.nan, np.float32))
        assert np.isfinite(poisoned[0]).all()
        assert poisoned[4]['limited']
        with pytest.raises(GraphError, match='stopped the robot.*finite'):
            env.step(np.zeros(1, np.float32))
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(np.zeros(1, np.float32))
        env._reset_timeout_s = 0.5
        with pytest.raises(GraphError, match='finite.*clear_stop'):
            env.reset()
        env.close()
        with environment('cartpole', 'cartpole_balance', arm=True) as armed:
            assert armed.reset(seed=3)[0].tobytes() == simulated.reset(seed=3)[0].tobytes()
            same(armed.step(np.zeros(1, np.float32)), simulated.step(np.zeros(1, np.float32)))
        simulated.close()


def test_real_time_returns_at_the_next_state_and_survives_a_slow_caller(tmp_path: Path) -> None:
    with graph(*gym_graph(tmp_path / 'run', *ARM, 'stepping:=realtime')), \
            environment(stepping='realtime', arm=True) as env:
        first, _ = env.reset(seed=11)
        simulated = SimEnv('arm', 'reach')
        start = simulated.reset(seed=11)[0]
        simulated.close()
        np.testing.assert_allclose(first, start, atol=0.05)  # the seed gives start and goal
        zero, gaps, moved = np.zeros(6, np.float32), [], 0
        while len(gaps) < 50:
            before = env._state.stamp_ns
            _, _, terminated, truncated, info = env.step(zero)
            if terminated or truncated:  # a loaded machine: it was stopped and allowed again
                env.reset()
                continue
            gaps.append((env._state.stamp_ns - before) / 1e9)
            moved += not info['limited']
        assert 0.015 < np.median(gaps) < 0.025, gaps
        assert moved > 25
        env.reset()
        # Silence longer than the watchdog stops the robot; arm=True goes on where it was.
        stamp = env._state.stamp_ns
        end = time.monotonic() + 0.4
        env._graph.until(lambda: time.monotonic() > end, 1.0)
        env.step(zero)
        assert env._state is None or env._state.stamp_ns - stamp > 0.3e9
        ended = env._state is None
        for _ in range(400):
            ended = ended or any(env.step(zero)[2:4])
            if ended:
                break
        assert ended, 'the time limit did not truncate the episode'
        env.reset()


def test_the_second_client_is_refused_here_and_in_another_process(tmp_path: Path) -> None:
    with environment():
        with pytest.raises(GraphError, match='another gym client is already running'):
            RosEnv('arm', 'reach')
        other = subprocess.run(
            [sys.executable, '-c', 'from rl_nodes.envs.ros_env import RosEnv\n'
             'RosEnv("arm", "reach")'], capture_output=True, text=True, timeout=60, check=False)
        assert other.returncode == 1
        assert 'another gym client is already running in ROS domain ' \
            f'{os.environ["ROS_DOMAIN_ID"]}' in other.stderr
        assert f'process {os.getpid()}' in other.stderr
        with environment(namespace='second'):
            pass
    with environment():
        pass  # closing gives the place back


def test_without_a_graph_and_with_another_one(tmp_path: Path, policy_path: Path) -> None:
    with environment(reset_timeout_s=0.3) as env, \
            pytest.raises(GraphError, match='robot_bridge.*is the graph running'):
        env.reset()
    with graph(*gym_graph(tmp_path / 'a')):
        with environment(stepping='realtime') as env, \
                pytest.raises(GraphError, match='stepping:=lockstep.*realtime'):
            env.reset()
        with environment('cartpole', 'cartpole_balance') as env, \
                pytest.raises(ContractError, match='graph with robot:=arm'):
            env.reset()
        with environment() as env, pytest.raises(GraphError, match='seed -1'):
            env._connect(30.0)
            env._graph.seed(-1, 5.0)
    with graph('deploy', f'policy:={policy_path}', f'run_dir:={tmp_path / "b"}',
               'stepping:=lockstep', 'episodes:=0'), environment() as env, \
            pytest.raises(GraphError, match='(policy_server|unknown by name) also publishes'):
        end = time.monotonic() + 30
        while time.monotonic() < end:  # the policy server starts last
            env.reset()
    for wrong in ({'stepping': 'fast'}, {'step_timeout_s': 0.0}, {'reset_timeout_s': np.nan}):
        with pytest.raises(GraphError, match=next(iter(wrong))):
            RosEnv('arm', 'reach', **wrong)


@pytest.mark.slow
def test_nodes_that_fall_silent_are_named_and_a_restarted_graph_is_used(tmp_path: Path) -> None:
    zero = np.zeros(6, np.float32)
    with environment(step_timeout_s=1.0) as env:
        with graph(*gym_graph(tmp_path / 'a')) as run:
            env.reset(seed=1)
            env.step(zero)
            nodes = run.nodes()
            for name, said in (('reward_computer', 'no reward.*reward_computer'),
                               ('safety_monitor', 'safety_monitor let no command'),
                               ('robot_bridge', 'no state.*robot_bridge')):
                os.kill(nodes[name], signal.SIGSTOP)
                try:
                    with pytest.raises(GraphError, match=said):
                        env.step(zero)
                finally:
                    os.kill(nodes[name], signal.SIGCONT)
                expected, _ = env.reset(seed=1)
            os.kill(nodes['robot_bridge'], signal.SIGSTOP)
            try:  # E6
                with pytest.raises(GraphError, match='robot_bridge/reset did not answer for 1 s'):
                    env._graph.reset(1.0)
            finally:
                os.kill(nodes['robot_bridge'], signal.SIGCONT)
            expected, _ = env.reset(seed=1)
            env.step(zero)
        with pytest.raises(GraphError):
            env.step(zero)
        with graph(*gym_graph(tmp_path / 'b')):
            assert env.reset(seed=1)[0].tobytes() == expected.tobytes()
            env.step(zero)
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        env.reset()


def test_stable_baselines3_trains_on_the_graph_unmodified(tmp_path: Path) -> None:
    stable_baselines3 = pytest.importorskip('stable_baselines3')
    torch = pytest.importorskip('torch')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks: more threads only wait for each other
    with graph(*gym_graph(tmp_path / 'run')), environment() as env:
        model = stable_baselines3.SAC('MlpPolicy', env, learning_starts=100, batch_size=64, seed=0,
                                      policy_kwargs={'net_arch': [32, 32]})
        model.learn(300)
        assert model.num_timesteps == 300
        assert model.replay_buffer.size() == 300
        assert np.abs(model.replay_buffer.rewards[:300]).sum() > 0
        # The same seed gives the same learning as in one process.
        simulated = SimEnv('arm', 'reach')
        peer = stable_baselines3.SAC('MlpPolicy', simulated, learning_starts=100, batch_size=64,
                                     seed=0, policy_kwargs={'net_arch': [32, 32]})
        peer.learn(300)
        simulated.close()
        for name in ('observations', 'actions', 'rewards'):
            ours, theirs = (getattr(m.replay_buffer, name)[:300] for m in (model, peer))
            assert ours.tobytes() == theirs.tobytes(), name
    torch.set_num_threads(threads)
