# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Schedules of difficulty, and that training environments follow them while evaluations do not."""

from pathlib import Path

import pytest
from rl_nodes.core.config import convert
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.envs import sim_env
from rl_nodes.runs.record import read_rows
from rl_nodes.training import in_process
from rl_nodes.training.curriculum import Curriculum, CurriculumConfig


def test_a_constant_schedule_is_difficulty_one() -> None:
    curriculum = Curriculum(CurriculumConfig())
    assert not curriculum.update(10**6, 1000, 0)
    assert curriculum.difficulty == 1.0


def test_a_linear_schedule_follows_the_steps() -> None:
    curriculum = Curriculum(CurriculumConfig('linear', start=0.2, steps=1000))
    seen = []
    for steps in range(0, 1500, 50):
        curriculum.update(steps, 0, 0)
        seen.append(curriculum.difficulty)
    assert seen[0] == 0.2 and seen[10] == pytest.approx(0.6) and seen[20:] == [1.0] * 10
    assert seen == sorted(seen)
    assert not curriculum.update(2000, 0, 0), 'nothing has changed'


def test_a_success_schedule_follows_success_and_judges_each_episode_once() -> None:
    curriculum = Curriculum(CurriculumConfig(
        'success', start=0.2, raise_at=0.8, lower_at=0.4, change=0.3, episodes=10))
    finished = succeeded = 0

    def after(good: int, bad: int) -> float:
        nonlocal finished, succeeded
        finished, succeeded = finished + good + bad, succeeded + good
        curriculum.update(0, finished, succeeded)
        return curriculum.difficulty

    assert after(9, 0) == 0.2, 'too few to judge'
    assert after(1, 0) == 0.5
    assert after(8, 2) == 0.8
    assert after(6, 4) == 0.8, 'neither good nor bad'
    assert after(3, 7) == 0.5
    assert [after(10, 0), after(10, 0), after(10, 0)] == [0.8, 1.0, 1.0]
    assert [after(0, 10) for _ in range(4)] == [0.7, 0.4, 0.2, 0.2], 'never below the start'


def test_a_schedule_goes_on_where_it_was_saved() -> None:
    config = CurriculumConfig('success', episodes=10)
    first, second = Curriculum(config), Curriculum(config)
    first.update(0, 14, 14)
    second.load_state_dict(first.state_dict())
    assert second.difficulty == 0.1
    for each in (first, second):
        assert not each.update(0, 23, 23)
        assert each.update(0, 24, 24) and each.difficulty == 0.2


@pytest.mark.parametrize(('data', 'message'), [
    ({'schedule': 'success', 'lower_at': 0.9}, 'lower_at = 0.9 must be below'),
    ({'schedule': 'linear', 'start': 1.5}, 'start = 1.5'),
    ({'schedule': 'cubic'}, 'cubic'),
])
def test_mistakes_are_named(data: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        convert(data, CurriculumConfig, 'mine')


def settings(folder: Path, curriculum: str) -> str:
    path = folder / 'mine.yaml'
    path.write_text(
        'algorithm: sac\nlearner: {hidden: [16], batch_size: 16, learning_starts: 50}\n'
        'loop: {updates_per_step: 0.02, evaluate_every_steps: 250, evaluation_episodes: 1,\n'
        f'       confirmation_episodes: 1, log_every_s: 0.01, curriculum: {curriculum}}}\n')
    return str(path)


@pytest.mark.parametrize('n_envs', [1, 2])
def test_training_follows_and_evaluation_stays_at_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_envs: int) -> None:
    difficulties: dict[int, list[float]] = {}
    reset = sim_env.SimEnv.reset

    def spied(self, *, seed=None, options=None):
        observation, info = reset(self, seed=seed, options=options)
        difficulties.setdefault(id(self), []).append(info['randomisation']['difficulty'])
        return observation, info
    monkeypatch.setattr(sim_env.SimEnv, 'reset', spied)
    in_process.train(in_process.TrainOptions(
        env='rl_nodes/ReachRandomised-v0', env_module='rl_nodes.envs', n_envs=n_envs, steps=700,
        algorithm=settings(tmp_path, '{schedule: linear, start: 0.1, steps: 600}'),
        run_dir=str(tmp_path / 'run'), film=False))
    evaluated = [seen for seen in difficulties.values() if set(seen) == {1.0}]
    assert len(evaluated) == 1, 'evaluations are at difficulty 1'
    if n_envs == 1:  # several live in processes of their own
        trained, = (seen for seen in difficulties.values() if seen not in evaluated)
        assert trained[0] == 0.1 and trained == sorted(trained) and trained[-1] > 0.8
    rows = [row for row in read_rows(tmp_path / 'run' / 'metrics.jsonl')
            if row['kind'] == 'train']
    shown = [row['difficulty'] for row in rows]
    assert shown == sorted(shown) and shown[-1] == 1.0 and shown[0] < 0.6


def test_a_schedule_without_anything_to_vary_is_refused(tmp_path: Path) -> None:
    for env, module in (('rl_nodes/Reach-v0', 'rl_nodes.envs'), ('Pendulum-v1', '')):
        with pytest.raises(TrainingError, match='same at every difficulty'):
            in_process.train(in_process.TrainOptions(
                env=env, env_module=module, steps=10, run_dir=str(tmp_path / 'run'),
                algorithm=settings(tmp_path, '{schedule: success}')))
