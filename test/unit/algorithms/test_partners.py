# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Two processes that learn together do the steps of one process with the joined batch."""

from pathlib import Path
import sys
from types import SimpleNamespace

import numpy as np
from partner_processes import ended, meeting, start
import pytest
from rl_nodes.algorithms.a2c import A2c, A2cConfig
from rl_nodes.algorithms.ddpg import Ddpg, DdpgConfig
from rl_nodes.algorithms.dqn import Dqn, DqnConfig
from rl_nodes.algorithms.partners import Partners
from rl_nodes.algorithms.ppo import Ppo, PpoConfig
from rl_nodes.algorithms.recurrent_sac import RecurrentSac, RecurrentSacConfig
from rl_nodes.algorithms.sac import Sac, SacConfig
from rl_nodes.algorithms.td3 import Td3, Td3Config
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.rollout import Rollout
import torch

STEPS, COUNT, ROUNDS = 8, 4, 3
HALF = COUNT // 2
ROWS, WINDOW = 12, 3  # of a half's batch; steps of its windows where there is a memory
ON_POLICY = ('ppo', 'ppo_kl', 'a2c')
SEEN = {'hidden': (8,), 'buffer_size': 100, 'learning_starts': 1}
EXACT = SEEN | {'reduced_precision': False}
OFF_POLICY = {
    'sac': (Sac, SacConfig, EXACT | {'critic_observation': 'privileged'}),
    'sac_v': (Sac, SacConfig, EXACT | {'variant': 'v_network'}),
    'sac_smooth': (Sac, SacConfig, EXACT | {'state_dependent_noise': 2}),
    'td3': (Td3, Td3Config, EXACT), 'ddpg': (Ddpg, DdpgConfig, EXACT),
    'recurrent_sac': (RecurrentSac, RecurrentSacConfig, EXACT | {
        'memory_size': 4, 'sequence_length': WINDOW, 'burn_in': 2}),
    'dqn': (Dqn, DqnConfig, SEEN | {
        'normalize_observation': True, 'prioritized': True, 'noisy': 'factorised',
        'gradient_norm': 0.1, 'target_every': 2})}


def make(name, count):
    """Return a learner whose batches are those of ``count`` environments."""
    if name in OFF_POLICY:
        kind, config, settings = OFF_POLICY[name]
        low, high = (np.array([0]), np.array([2])) if kind is Dqn else (-np.ones(2), np.ones(2))
        return kind(3, low, high, config(batch_size=ROWS * count // HALF, **settings), 3, 1)
    contract = Contract(
        '', 'test', 0.0, 'effort', (),
        ArraySpec('observation', ('a', 'b', 'c'), ('1',) * 3, (None,) * 3, (None,) * 3, 'float32'),
        ArraySpec('action', ('x', 'y'), ('1',) * 2, (-1.0,) * 2, (1.0,) * 2, 'float32'),
        'environment')
    if name == 'a2c':
        return A2c(contract, A2cConfig(hidden=(8,), rollout_steps=STEPS,
                                       normalize_advantage=True), 3)
    return Ppo(contract, PpoConfig(
        hidden=(8,), rollout_steps=STEPS, batch_size=STEPS * count, epochs=4, kl_stop=0.05,
        variant='kl_penalty' if name == 'ppo_kl' else 'clip', max_gradient_norm=0.1), 3)


def rollout(learner, number, columns):
    """Return some columns of a made-up rollout of four environments."""
    rng = np.random.default_rng(number)
    observation = rng.normal(1.0, 2.0, (STEPS + 1, COUNT, 3)).astype(np.float32)[:, columns]
    action = rng.normal(size=(STEPS, COUNT, 2)).astype(np.float32)[:, columns]
    reward = rng.normal(size=(STEPS, COUNT)).astype(np.float32)[:, columns]
    terminated = (rng.random((STEPS, COUNT)) < 0.2)[:, columns]
    return Rollout(observation[:-1], action, reward, terminated, np.zeros_like(terminated),
                   np.ones_like(terminated), observation[-1], np.zeros((0, 3), np.float32),
                   learner.updates, learner.remembered(observation.shape[1]))


def transitions(step, columns, discrete):
    """Return one step of some of four made-up environments, whose episodes are 3 to 6 long."""
    rng, places = np.random.default_rng(step), np.arange(COUNT)
    episode, place = np.divmod(step, 3 + places)
    observation, following = rng.normal(1.0, 2.0, (2, COUNT, 3)).astype(np.float32)
    privileged = rng.normal(size=(2, COUNT, 1)).astype(np.float32)
    action = rng.uniform(-1.0, 1.0, (COUNT, 2)).astype(np.float32)
    if discrete:
        action = rng.integers(3, size=(COUNT, 1)).astype(np.float32)
    ended, no = place == 2 + places, np.zeros(COUNT, bool)
    batch = TransitionBatch(
        observation, action, action, rng.normal(size=COUNT).astype(np.float32), following, ended,
        no, no, no, place, 100 * places + episode, place, *privileged)
    return TransitionBatch(**{key: column[columns] for key, column in batch.columns().items()})


def draw_like(learner, halves, patch):
    """Let what is random while learning be that of some halves of the joined batch."""
    learner._generator.manual_seed(5)

    def each(draw):
        return [draw(np.random.default_rng([learner.updates, half])) for half in halves]

    def rows(size, shape, generator):
        found = each(lambda rng: rng.integers(STEPS * HALF, size=shape[0] // len(halves)))
        return torch.from_numpy(np.concatenate([  # of each step come all environments
            (row // HALF * len(halves) + place) * HALF + row % HALF
            for place, row in enumerate(found)]))

    def noise(parts, length):
        return SimpleNamespace(normal_=lambda generator: torch.from_numpy(np.concatenate(each(
            lambda rng: rng.normal(size=(parts, length, 2))), 1).astype(np.float32)).view(-1, 2))

    def by_priority(size, stored, beta, generator):
        return rows(stored, (size,), generator), torch.from_numpy(np.concatenate(
            each(lambda rng: rng.uniform(1.0, 3.0, size // len(halves)))))

    patch(torch, 'randint', rows)
    if isinstance(learner, Sac):
        parts = 2 * (WINDOW if isinstance(learner, RecurrentSac) else 1)
        learner._noise = noise(parts, 2 * ROWS // parts)
    elif isinstance(learner, Td3):
        learner._smoothing = noise(1, ROWS)
    elif isinstance(learner, Dqn):
        learner._priorities.sample = by_priority


def learn(name, learner, columns):
    for number in range(STEPS if name in OFF_POLICY else 0):
        learner.observe(transitions(number, columns, name == 'dqn'))
    for number in range(ROUNDS):
        learner.update(*([] if name in OFF_POLICY else [rollout(learner, number, columns)]))
    state = learner.state_dict()
    return {key: state[key] for key in (
        'weights', 'normalizer', 'privileged_normalizer', 'updates', 'steps') if key in state}


def partner(folder):
    """Learn from half of the environments, one method after the other, in a child process."""
    torch.set_num_threads(1)
    partners = Partners.of_environment()
    torch.save([partners.first_says(7 - partners.rank), partners.first_says(not partners.rank),
                partners.first_tells(['größer', ''][partners.rank])],
               folder / f'said_{partners.rank}.pt')
    for name in (*ON_POLICY, *OFF_POLICY):
        learner = make(name, HALF)
        learner.join(partners, 0)
        if name in OFF_POLICY:
            draw_like(learner, [partners.rank], setattr)
        first = partners.rank * HALF
        torch.save(learn(name, learner, slice(first, first + HALF)),
                   folder / f'{name}_{partners.rank}.pt')
    partners.close()


@pytest.fixture(scope='module')
def halves(tmp_path_factory):
    """Return a function that gives what both processes have come to with a method."""
    folder = tmp_path_factory.mktemp('halves')
    for process in [start([__file__, folder], variables) for variables in meeting(2)]:
        status, said = ended(process)
        assert status == 0, said
    return lambda name: [torch.load(folder / f'{name}_{rank}.pt', weights_only=True)
                         for rank in range(2)]


@pytest.mark.parametrize('name', [*ON_POLICY, *OFF_POLICY])
def test_two_halves_are_one_whole(halves, monkeypatch, name):
    first, second = halves(name)
    torch.testing.assert_close(first, second, rtol=0, atol=0)  # partners never drift apart
    learner = make(name, COUNT)
    if name in OFF_POLICY:
        draw_like(learner, [0, 1], monkeypatch.setattr)
    begun = learner.state_dict()['weights']
    whole = learn(name, learner, slice(None))
    moved = max((now - before).abs().max() for now, before in zip(
        *(list(weights.values()) if name in OFF_POLICY else [weights]
          for weights in (whole['weights'], begun))))
    assert moved > 8e-4
    torch.testing.assert_close(first, whole, rtol=1e-4, atol=2e-6)


def test_the_first_one_is_heard(halves):
    assert halves('said') == [[7, 1, 'größer']] * 2


def test_who_loses_a_partner_says_so():
    leaves = ('from rl_nodes.algorithms.partners import Partners; import os; '
              'Partners.of_environment(); os._exit(3)')
    stays = ('from rl_nodes.algorithms.partners import Partners; import torch; '
             'partners = Partners.of_environment()\n'
             'while True: partners.average(torch.ones(3))')
    first, second = map(start, [['-c', stays], ['-c', leaves]], meeting(2))
    assert ended(second)[0] == 3
    status, said = ended(first)
    assert status == 1
    assert 'PartnerError: process 0 of those that learn together lost another one' in said


def test_what_cannot_be_joined_says_so():
    learner = make('ppo', 1)
    learner.has_partners = False
    with pytest.raises(TrainingError, match='ppo: several processes'):
        learner.join(None, 0)
    for learner, name in ((make('a2c', 1), 'reward_scaler'), (make('sac', 2), 'constraint')):
        setattr(learner, name, object())
        with pytest.raises(TrainingError, match='without normalize_reward and without a con'):
            learner.join(None, 0)


if __name__ == '__main__':
    partner(Path(sys.argv[1]))
