# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The shipped files say what the records say."""

import re

import msgspec
import pytest
from rl_nodes.algorithms.ppo import PpoConfig
from rl_nodes.algorithms.sac import SacConfig
from rl_nodes.core import config, resources
from rl_nodes.core.errors import ConfigError
from rl_nodes.training.cloning import CloneSettings
from rl_nodes.training.settings import (
    load_settings,
    LoopConfig,
    METHODS,
    ScheduleConfig,
    settings_from,
)
from rl_nodes.training.success import SuccessSettings

UNSET = ('checkpoint_every_steps',)  # takes the place of another one where it is given


def test_sac_yaml_names_every_key():
    raw = config.read_yaml(resources.find_config('train', 'sac'))
    assert list(raw['learner']) == config.field_names(SacConfig)
    assert {*raw['loop'], *UNSET} == set(config.field_names(LoopConfig))


def test_ppo_yaml_names_every_key():
    raw = config.read_yaml(resources.find_config('train', 'ppo'))
    assert sorted(raw['learner']) == sorted(config.field_names(PpoConfig))
    assert {*raw['loop'], *UNSET} == set(config.field_names(ScheduleConfig))


@pytest.mark.parametrize('name', METHODS)
def test_the_file_of_a_method_names_every_key_that_others_do_not_have(name):
    kind = METHODS[name].config
    shared = set() if kind.__base__ is msgspec.Struct else {*config.field_names(kind.__base__)}
    own = {*config.field_names(kind)} - shared
    assert own <= set(config.read_yaml(resources.find_config('train', name))['learner'])


@pytest.mark.parametrize('path', sorted(
    resources.find_config('train', 'sac').parent.glob('*.yaml')), ids=lambda path: path.stem)
def test_every_key_is_explained(path):
    keys = [line for line in path.read_text().splitlines() if re.match(' +[a-z_]+:', line)]
    assert [line for line in keys if ' # ' not in line] == []


def test_every_shipped_file_loads():
    names = {path.stem for path in resources.find_config('train', 'sac').parent.glob('*.yaml')}
    of_recordings = {'bc': CloneSettings, 'success_classifier': SuccessSettings}
    assert {load_settings(name).algorithm for name in names - {*of_recordings}} == set(METHODS)
    for name, record in of_recordings.items():
        file = resources.find_config('train', name)
        assert config.load(file, record) == record(name), 'the file says what the record does'
        assert sorted(config.read_yaml(file)['learner']) == sorted(
            config.field_names(type(record(name).learner)))


@pytest.mark.parametrize(('text', 'message'), [
    ('algorithm: sac\nlearner: {tau: 0.005}', "unknown key 'tau'"),
    ('algorithm: sac\nlearner: {discount: 1.0}', 'learner.discount = 1.0'),
    ('algorithm: sac\nloop: {updates_per_step: 0}', 'loop.updates_per_step = 0'),
    ('algorithm: sarsa', 'algorithm'),
    ('learner: {}', 'algorithm'),
])
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / 'mine.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_settings(str(path))


def test_round_trip_through_builtins():
    settings = load_settings('sac_pendulum')
    assert settings_from(msgspec.to_builtins(settings), 'here') == settings


def test_changes_hold_instead_of_the_file():
    settings = load_settings('sac', {'learner.discount': '0.9', 'learner.hidden': '[8, 8]',
                                     'loop.curriculum.schedule': 'linear'})
    assert (settings.learner.discount, settings.learner.hidden) == (0.9, (8, 8))
    assert settings.loop.curriculum.schedule == 'linear'
    assert settings.learner.batch_size == load_settings('sac').learner.batch_size


@pytest.mark.parametrize(('key', 'text', 'message'), [
    ('learner.discuont', '0.9', r"did you mean 'discount'"),
    ('learner.discount', '2', r'with learner.discount:=2: learner.discount = 2'),
    ('learner.discount.x', '1', 'discount has one value and no x'),
    ('learner.discount', '[', 'not valid YAML'),
    ('loop', '1', 'loop = 1')])
def test_changes_that_do_not_fit_are_named(key, text, message):
    with pytest.raises(ConfigError, match=message):
        load_settings('sac', {key: text})
