# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A task that varies its episodes, in the graph: who sets the difficulty, who hears of it."""

import json
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, observer
import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError, GraphError
from rl_nodes.core.resources import find_config
from rl_nodes.core.types import EpisodeId
from rl_nodes.data.reader import read_episode
from rl_nodes.envs.ros_env import RosEnv
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.nodes import qos
from sensor_msgs.msg import JointState

SETTINGS = """
algorithm: sac
learner: {hidden: [16], batch_size: 16, learning_starts: 100}
loop: {updates_per_step: 0.05, curriculum: {schedule: linear, start: 0.25, steps: 400}}
"""


@pytest.fixture
def task(tmp_path: Path) -> str:
    """Return the shipped task with episodes of ten steps."""
    path = tmp_path / 'short.yaml'
    path.write_text(find_config('tasks', 'reach_randomised').read_text().replace(
        'episode_s: 2.0', 'episode_s: 0.2'))
    return str(path)


def test_the_client_sets_the_difficulty_and_is_told_what_was_drawn(tmp_path: Path,
                                                                   task: str) -> None:
    with graph('gym', f'task:={task}', f'run_dir:={tmp_path / "run"}'):
        env, simulated = RosEnv('arm', task), SimEnv('arm', task)
        try:
            rng = np.random.default_rng(0)
            for seed, difficulty in ((3, 1.0), (None, 0.3), (None, 0.0), (3, 1.0)):
                env.difficulty = simulated.difficulty = difficulty
                observation, info = env.reset(seed=seed)
                expected, expected_info = simulated.reset(seed=seed)
                assert observation.tobytes() == expected.tobytes()
                assert info == expected_info
                assert info['randomisation']['difficulty'] == difficulty
                for _ in range(10):
                    action = rng.uniform(-1, 1, 6).astype(np.float32)
                    answer, expected_answer = env.step(action), simulated.step(action)
                    assert answer[0].tobytes() == expected_answer[0].tobytes()
                    assert answer[1:] == expected_answer[1:]
            with pytest.raises(ConfigError, match='difficulty = -0.1'):
                env.difficulty = -0.1
            with pytest.raises(GraphError, match='robot_bridge refuses difficulty 1.5'):
                env._graph.difficulty(1.5, 5.0)
            with pytest.raises(GraphError, match='robot_bridge refuses difficulty nan'):
                env._graph.difficulty(float('nan'), 5.0)
        finally:
            env.close()
            simulated.close()


@pytest.mark.slow
def test_the_trainer_sets_the_difficulty_and_episodes_keep_it(tmp_path: Path, task: str) -> None:
    settings = tmp_path / 'small.yaml'
    settings.write_text(SETTINGS)
    with observer() as seen, graph('train', f'task:={task}', f'algorithm:={settings}',
                                   f'run_dir:={tmp_path / "run"}') as run:
        seen.listen(JointState, 'randomisation', qos.EPISODE)
        seen.listen(DiagnosticArray, 'trainer/status', qos.LATCHED)
        told: dict[int, float] = {}

        def until_difficulty(least: float) -> None:
            def reached() -> bool:
                msg = seen.last('randomisation')
                if msg is None:
                    return False
                values = dict(zip(msg.name, msg.position))
                told[EpisodeId.parse(msg.header.frame_id).number] = values['difficulty']
                return least <= values['difficulty'] < 1.0 or (
                    least == 1.0 and len(told) > 60 and values['difficulty'] == 1.0)
            seen.until(reached, f'an episode of difficulty {least}', 90.0)
        until_difficulty(0.25)
        until_difficulty(1.0)
        seen.until(lambda: seen.values('trainer/status').get('difficulty') == '1.0',
                   'the trainer says so')
        run.interrupt()
        run.wait(20)
    rows = [json.loads(line)
            for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert [row['difficulty'] for row in rows if row['kind'] == 'train'][-1] == 1.0
    files = sorted((tmp_path / 'run' / 'episodes').glob('*.mcap'))
    for path in files:
        episode = read_episode(path)
        values = json.loads(episode.metadata['randomisation'])
        assert 'randomisation' in episode.topics and len(values) > 20
        number = EpisodeId.parse(episode.metadata['episode']).number
        assert values['difficulty'] == told.get(number, values['difficulty'])
    assert len(files) > 2


def test_a_schedule_for_a_task_that_does_not_vary_is_refused(tmp_path: Path) -> None:
    settings = tmp_path / 'small.yaml'
    settings.write_text(SETTINGS)
    with graph('train', f'algorithm:={settings}', f'run_dir:={tmp_path / "run"}') as run:
        assert run.wait(60) == 2
    assert 'task reach is the same at every difficulty' in run.output
