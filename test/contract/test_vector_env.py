# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The vector form equals lone environments bit by bit, and leaves nothing behind when it fails."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv
import numpy as np
import pytest
from rl_nodes.core.errors import BackendError, ConfigError
from rl_nodes.core.resources import find_config
from rl_nodes.envs.serial_env import SerialVectorEnv
from rl_nodes.envs.vector_env import seeds_of, SimVectorEnv
from rl_nodes.training.sources import environment_maker, make_envs

REACH, CARTPOLE = 'rl_nodes/Reach-v0', 'rl_nodes/CartpoleBalance-v0'
VARIED = 'rl_nodes/ReachRandomised-v0'
PARTIAL = 'rl_nodes/CartpoleSwingUpPartial-v0'  # with privileged signals


def make(count: int = 3, workers: int = 2, env_id: str = CARTPOLE, **others) -> SimVectorEnv:
    return gymnasium.make_vec(env_id, num_envs=count, workers=workers,
                              vectorization_mode='vector_entry_point', **others)


def flat(value) -> list:
    """Return (name, bytes) of everything in nested infos, in the order of the names."""
    if isinstance(value, dict):
        return [(key, flat(value[key])) for key in sorted(value)]
    if value.dtype == object:  # final_obs, or an info that Gymnasium does not take for a number
        return [np.float64(0).tobytes() if item is None else
                np.asarray(item, np.float64).tobytes() for item in value]
    return value.astype(np.float64).tobytes()


def trajectory(envs: gymnasium.vector.VectorEnv, seed, steps: int) -> tuple[list, int]:
    """Return everything that random actions give, and how many episodes ended meanwhile."""
    rng = np.random.default_rng(8)
    observation, infos = envs.reset(seed=seed)
    rows, ended = [(observation.tobytes(), flat(infos))], 0
    for _ in range(steps):
        actions = rng.uniform(-1, 1, envs.action_space.shape).astype(np.float32)
        observation, *numbers, infos = envs.step(actions)
        assert observation.dtype == np.float32
        rows.append((observation.tobytes(), *(number.tobytes() for number in numbers),
                     flat(infos)))
        ended += int((numbers[1] | numbers[2]).sum())
    envs.close()
    return rows, ended


def test_workers_know_what_is_left_to_be_earned(tmp_path: Path) -> None:
    """The target less the rewards of the steps before the last, anew in each episode."""
    path = tmp_path / 'told.yaml'
    path.write_text(find_config('tasks', 'cartpole_balance').read_text().replace(
        'observation: [', 'observation: [return_to_go, ')
        + 'return_to_go: {target: 7.5, scale: 5.0}\n')
    envs = make(task=str(path))
    observation, _ = envs.reset(seed=3)
    earned, last, ended = np.zeros(3), np.zeros(3), 0
    for _ in range(120):
        np.testing.assert_array_equal(observation[:, 0], ((7.5 - earned) / 5.0).astype(np.float32))
        observation, reward, terminated, truncated, infos = envs.step(
            np.ones(envs.action_space.shape, np.float32))
        earned += last
        last, done = reward.copy(), terminated | truncated
        for index in np.flatnonzero(done):
            final = infos['final_obs'][index]
            assert final[0] == np.float32((7.5 - earned[index]) / 5.0)
        earned[done] = last[done] = 0.0
        ended += int(done.sum())
    envs.close()
    assert ended >= 3


@pytest.mark.parametrize('env_id', [REACH, CARTPOLE, PARTIAL, VARIED])
def test_any_number_of_workers_gives_the_bits_of_lone_environments(env_id: str) -> None:
    sync = SyncVectorEnv([lambda: gymnasium.make(env_id)] * 3,
                         autoreset_mode=AutoresetMode.SAME_STEP)
    expected, ended = trajectory(sync, seeds_of(5, 3), 130)
    assert ended >= 3  # the resets within a step are among what is compared
    in_turn = SerialVectorEnv([lambda: gymnasium.make(env_id)] * 3)
    assert trajectory(in_turn, seeds_of(5, 3), 130)[0] == expected
    for workers in (1, 2, 3):
        assert trajectory(make(3, workers, env_id), 5, 130)[0] == expected


def test_difficulty_holds_from_the_next_reset_on_and_for_each_environment() -> None:
    sync = SyncVectorEnv([lambda: gymnasium.make(VARIED)] * 3,
                         autoreset_mode=AutoresetMode.SAME_STEP)
    both = (sync, make(3, 2, VARIED))
    for envs in both:
        infos = envs.reset(seed=seeds_of(5, 3))[1]
        assert infos['randomisation']['difficulty'].tolist() == [1.0, 1.0, 1.0]
        envs.set_attr('difficulty', [0.0, 0.25, 1.0])
    for _ in range(100):
        observation, *_, infos = sync.step(np.zeros((3, 6), np.float32))
        ours, *_, our_infos = both[1].step(np.zeros((3, 6), np.float32))
        assert (observation == ours).all()
    assert flat(infos) == flat(our_infos)
    drawn = our_infos['randomisation']
    assert drawn['difficulty'].tolist() == [0.0, 0.25, 1.0]
    assert drawn['mass_scale/forearm'][0] == 1.0 != drawn['mass_scale/forearm'][2]
    assert drawn['_gravity_scale'].all() and our_infos['_randomisation'].all()
    with pytest.raises(ConfigError, match='difficulty = 1.5'):
        both[1].set_attr('difficulty', 1.5)
    with pytest.raises(gymnasium.error.Error, match='2 values of difficulty came for 3'):
        both[1].set_attr('difficulty', [0.0, 1.0])
    with pytest.raises(gymnasium.error.Error, match="did you mean 'difficulty'"):
        both[1].set_attr('dificulty', 1.0)
    for envs in both:
        envs.close()


def test_seeds_are_distinct_and_those_of_fewer_environments_come_first() -> None:
    assert len(set(seeds_of(0, 64) + seeds_of(1, 64))) == 128
    assert seeds_of(3, 4) == seeds_of(3, 9)[:4]


def test_what_it_says_of_itself_and_what_it_refuses() -> None:
    envs = make(render_mode='rgb_array')
    assert envs.metadata['autoreset_mode'] is AutoresetMode.SAME_STEP
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(np.zeros((3, 1)))
    envs.reset(seed=[1, None, 2])
    assert [picture.shape for picture in envs.render()] == [(480, 640, 3)] * 3
    with pytest.raises(gymnasium.error.InvalidAction, match=r'\[2, 1\], expected \[3, 1\]'):
        envs.step(np.zeros((2, 1)))
    with pytest.raises(gymnasium.error.Error, match='2 seeds came for 3'):
        envs.reset(seed=[1, 2])
    with pytest.raises(gymnasium.error.Error, match='reset_mask'):
        envs.reset(options={'reset_mask': np.ones(3, bool)})
    envs.close()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        envs.step(np.zeros((3, 1)))
    for wrong in ({'workers': 4}, {'workers': 0}, {'render_mode': 'human'}, {'backend': 'bullet'},
                  {'timeout_s': 0.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            make(**wrong)


def _open_files() -> set[str]:
    return {f'{file.name} {os.readlink(file)}' for file in Path('/proc/self/fd').iterdir()
            if file.exists()}


def test_close_leaves_no_process_and_no_descriptor_which_is_all_its_memory_has() -> None:
    before = _open_files()
    envs = make()
    processes = list(envs._processes)
    envs.reset(seed=0)
    envs.close()
    envs.close()
    assert [process.returncode for process in processes] == [0, 0]
    assert _open_files() == before


@pytest.mark.parametrize(('number', 'why'), [
    (signal.SIGKILL, 'was killed by SIGKILL'), (signal.SIGSTOP, 'has not answered for 2 s')])
def test_a_lost_worker_is_named_soon_and_takes_the_others_along(number: int, why: str) -> None:
    envs = make(timeout_s=2.0)
    envs.reset(seed=0)
    processes = list(envs._processes)
    os.kill(processes[1].pid, number)
    begin = time.monotonic()
    with pytest.raises(BackendError, match=f'worker 1 of 2 .*environments 1 to 2. {why}'):
        for _ in range(100):
            envs.step(np.zeros((3, 1)))
    assert time.monotonic() - begin < 8.0
    assert all(process.poll() is not None for process in processes)
    with pytest.raises(BackendError, match='make another'):
        envs.reset()
    envs.close()


def test_an_error_in_a_worker_arrives_with_its_text() -> None:
    envs = make()
    envs._blocks.seed[:] = -7  # what no caller can do: a defect in a worker
    with pytest.raises(BackendError, match='worker . of 2 .* failed: .*-7'):
        envs._order(b'r')


SCRIPT = """
import os, sys
import gymnasium, rl_nodes.envs
envs = gymnasium.make_vec('rl_nodes/CartpoleBalance-v0', 2, 'vector_entry_point', workers=2)
envs.reset(seed=0)
sys.stdout.write(' '.join(str(process.pid) for process in envs._processes))
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


def test_workers_end_with_a_killed_parent_that_had_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = done.stdout.split()
    assert len(pids) == 2
    deadline = time.monotonic() + 10.0
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, 'workers outlive their parent'
        time.sleep(0.01)


def _runs(pid: str) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def test_training_uses_it_where_it_fits() -> None:
    for env_id, count, kind in ((REACH, 2, SimVectorEnv), (REACH, 1, SerialVectorEnv),
                                ('Pendulum-v1', 2, SerialVectorEnv),
                                ('CartPole-v1', 2, SerialVectorEnv)):
        envs = make_envs(environment_maker(env_id, 'rl_nodes.envs'), count, env_id)
        assert type(envs) is kind
        assert envs.metadata['autoreset_mode'] is AutoresetMode.SAME_STEP
        envs.close()
