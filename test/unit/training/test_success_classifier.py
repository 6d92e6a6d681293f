# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Success classifiers made of episodes: what counts as an example, what is learned, refused."""

import math

from method_pages import DOCS, never_written, undocumented, written_to
import numpy as np
import pytest
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.inference.success import load_success, probability, signals_of
from rl_nodes.tasks import load_task
from rl_nodes.tasks.success import SuccessView
from rl_nodes.training import success
from rl_nodes.training.success import (
    describe,
    EpisodeStates,
    examples,
    SuccessOptions,
    train_success,
)

CONTRACT = SuccessView(load_task('arm', 'reach'), ('goal_offset',)).contract
STEPS = 60
QUICK = """
algorithm: success_classifier
learner: {hidden: [32], epochs: 40, batch_size: 64, learning_rate: 0.003}
"""


def episode(number: int, well: bool = True, word: bool | None = None) -> EpisodeStates:
    """Return an approach along a line; the last 0.2 m are success, unless it turns away."""
    rng = np.random.default_rng(number)
    way = rng.normal(size=3)
    way /= np.linalg.norm(way)
    gap = np.linspace(1.0, 0.0 if well else 0.4, STEPS)
    rows = (gap[:, None] * way + rng.normal(size=(STEPS, 3)) * 0.003).astype(np.float32)
    return EpisodeStates(f'episode_{number}.mcap', rows, np.linalg.norm(rows, axis=1) < 0.2,
                         well if word is None else word)


def many(count: int = 40) -> list[EpisodeStates]:
    return [episode(number, well=number % 4 != 0) for number in range(count)]


def options(folder, **changes) -> SuccessOptions:
    file = folder / 'quick.yaml'
    file.write_text(QUICK)
    return SuccessOptions(**{'dataset': 'it', 'algorithm': str(file), 'false_success': 0.02,
                             'run_dir': str(folder / 'run'), **changes})


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    recording = folder / 'episode.mcap'
    recording.write_bytes(b'recorded')
    return train_success(options(folder), many(), [], CONTRACT, [recording])


def test_states_of_success_are_told_from_others(trained) -> None:
    figures = trained.figures
    assert figures.auc > 0.98
    assert figures.recall > 0.7
    assert figures.precision > 0.7
    assert figures.found_false_success < 0.08, 'twice to four times what was asked for'
    assert figures.threshold >= 0.5
    text = describe(figures)
    assert f'recall {figures.recall:.3f}' in text and '2.00% asked for' in text
    assert trained.classifier == trained.run_dir / 'success.onnx'


def test_its_page_says_what_it_writes(trained) -> None:
    page = DOCS / 'success_classifier.md'
    assert not undocumented(written_to(trained.run_dir), page)
    assert not never_written(written_to(trained.run_dir), page)


def test_the_file_says_what_it_is(trained) -> None:
    bundle, figures = load_success(trained.classifier)
    assert figures == trained.figures
    assert bundle.manifest.contract == CONTRACT
    assert bundle.manifest.name == 'reach_success'
    assert list(bundle.manifest.data) == ['episode.mcap']
    assert signals_of(CONTRACT) == ('goal_offset',)
    answer = PolicyRuntime(bundle).answer
    near, far = (float(answer(np.array([gap, 0.0, 0.0], np.float32))[0]) for gap in (0.02, 0.5))
    assert probability(near) > figures.threshold > probability(far)
    assert abs(near) <= 10.0


def test_the_same_episodes_and_seed_give_the_same_network(tmp_path, trained) -> None:
    again = train_success(options(tmp_path), many(), [], CONTRACT, [])
    assert PolicyBundle.load(again.classifier).onnx == PolicyBundle.load(trained.classifier).onnx
    assert again.figures == trained.figures


def test_further_negatives_change_what_counts(tmp_path) -> None:
    deceiving = [EpisodeStates('it', np.tile(np.float32([[0.05, 0.0, 0.0]]), (300, 1)),
                               np.ones(300, bool), True)]
    answers = []
    for i, negatives in enumerate(([], deceiving)):
        (tmp_path / str(i)).mkdir()
        found = train_success(options(tmp_path / str(i)), many(), negatives, CONTRACT, [])
        answers.append(float(PolicyRuntime(PolicyBundle.load(found.classifier)).answer(
            np.float32([0.05, 0.0, 0.0]))[0]))
    assert answers[1] < answers[0] - 1.0


@pytest.mark.parametrize(('last', 'margin', 'well', 'positive', 'negative'), [
    (0, 0, True, [3, 4], [0, 1, 2]),   # what the reward says
    (0, 0, False, [3, 4], [0, 1, 2]),
    (1, 0, True, [4], [0, 1, 2, 3]),   # what a person says of the episode
    (1, 2, True, [4], [0, 1]),
    (1, 2, False, [], [0, 1, 2, 3, 4]),
    (9, 0, True, [0, 1, 2, 3, 4], [])])
def test_what_is_an_example_of_what(last, margin, well, positive, negative) -> None:
    found = examples(EpisodeStates('it', np.arange(5.0)[:, None], np.arange(5) >= 3, well),
                     last, margin)
    assert found.positive.ravel().tolist() == positive
    assert found.negative.ravel().tolist() == negative


def test_no_episode_is_in_two_parts(tmp_path) -> None:
    tagged = [one._replace(rows=np.full_like(one.rows, number))
              for number, one in enumerate(many())]
    parts = [set(np.concatenate([*part])[:, 0].tolist())
             for part in success._deal(options(tmp_path), tagged)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert set().union(*parts) == set(range(40))
    assert [len(part) for part in parts] == [28, 7, 5]


@pytest.mark.parametrize(('episodes', 'changes', 'message'), [
    (many(4), {}, r'states of success in 3 of 4 episodes; at least 30 in 6 are needed.*'
                  'last_steps:=10'),
    ([episode(i, well=False) for i in range(20)], {}, '0 states of success in 0 of 20 episodes'),
    ([episode(i, word=False) for i in range(20)], {'last_steps': 5},
     '0 states of success.*last_steps:=0'),
    ([episode(i) for i in range(20)], {'last_steps': STEPS}, 'and 0 others to learn from'),
    (many(20), {'false_success': 0.0001}, 'needs 9999 for the threshold')])
def test_too_little_is_refused(tmp_path, episodes, changes, message) -> None:
    with pytest.raises(TrainingError, match=message):
        train_success(options(tmp_path, **changes), episodes, [], CONTRACT, [])
    assert not (tmp_path / 'run').exists()


def test_what_cannot_be_told_apart_is_no_classifier(tmp_path) -> None:
    alike = [one._replace(rows=np.zeros_like(one.rows)) for one in many()]
    with pytest.raises(TrainingError, match='lies none of .* states of success'):
        train_success(options(tmp_path), alike, [], CONTRACT, [])
    assert not (tmp_path / 'run' / 'success.onnx').exists()


def test_a_folder_in_use_and_wrong_settings_are_refused(tmp_path, trained) -> None:
    with pytest.raises(ConfigError, match='holds a classifier already'):
        train_success(options(tmp_path, run_dir=str(trained.run_dir)), many(), [],
                      CONTRACT, [])
    with pytest.raises(ConfigError, match='algorithm'):
        train_success(options(tmp_path, algorithm='bc'), many(), [], CONTRACT, [])


@pytest.mark.parametrize(('mixup', 'smoothing'), [(0.0, 0.0), (1.0, 0.0), (0.0, 0.2)])
def test_mixup_and_smoothing_make_it_less_sure(mixup, smoothing) -> None:
    from rl_nodes.algorithms.success_classifier import learn_success, SuccessLearnerConfig
    import torch

    whole = [examples(one, 0, 0) for one in many()]
    parts = [np.concatenate(column) for column in zip(*whole)]
    module = learn_success(*parts, SuccessLearnerConfig(
        hidden=(32,), epochs=30, batch_size=64, mixup=mixup, label_smoothing=smoothing), 0, 10.0)
    with torch.no_grad():
        surest = float(module(torch.zeros(1, 3)))
    if smoothing:
        assert surest < math.log(0.9 / 0.1) + 1.0
    elif mixup:
        assert 0.0 < surest < 5.0
    else:
        assert surest > 4.0
