# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""SAC with a memory: gradients by autograd step by step, what is remembered, what is refused."""

import numpy as np
import pytest
from rl_nodes.algorithms.recurrent_sac import RecurrentSac, RecurrentSacConfig
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import TransitionBatch
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.memory import StateTensor
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.networks.distributions import LOG_STD_MAX, LOG_STD_MIN, squash
import torch

LENGTHS = (1, 3, 7, 9, 2, 4)  # of the episodes
LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32)
OBSERVATION, PRIVILEGED = 3, 2


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(params=['gru', 'lstm'])
def make(request):
    def learner(seed=0, privileged=0, **settings):
        made = RecurrentSac(OBSERVATION, LOW, HIGH, RecurrentSacConfig(**({
            'hidden': (12,), 'memory': request.param, 'memory_size': 6, 'batch_size': 40,
            'sequence_length': 5, 'burn_in': 3, 'learning_starts': 10, 'buffer_size': 1000,
            'reduced_precision': False, 'normalize_observation': False} | settings)), seed,
            privileged)
        made.observe(episodes())
        return made
    return learner


def episodes():
    """Return episodes of several lengths, the shortest ones terminated."""
    rng, parts = np.random.default_rng(1), []
    for number, length in enumerate(LENGTHS):
        seen = rng.normal(size=(length + 1, OBSERVATION)).astype(np.float32)
        known = rng.normal(size=(length + 1, PRIVILEGED)).astype(np.float32)
        last, no = np.arange(length) == length - 1, np.zeros(length, bool)
        action = rng.uniform(LOW, HIGH, (length, 2)).astype(np.float32)
        parts.append(TransitionBatch(
            seen[:-1], action, action, rng.normal(size=length).astype(np.float32), seen[1:],
            last & (length < 5), last & (length > 5), no, no, np.zeros(length, np.int64),
            np.full(length, number), np.arange(length), privileged=known[:-1],
            next_privileged=known[1:]))
    return TransitionBatch.concatenate(parts)


def run(memory, before, rows):
    """Return h after each observation, one step after the other; no gradient before them."""
    state, found = None, []
    with torch.no_grad():
        for row in before:
            state = memory(row[None, None], state)[1]
    for row in rows:
        h, state = memory(row[None, None], state)
        found.append(h[0, 0])
    return found


@pytest.mark.parametrize('privileged', [0, PRIVILEGED])
def test_gradients_agree_with_autograd_step_by_step(make, monkeypatch, privileged):
    learner = make(privileged=privileged, critic_observation='privileged' if privileged
                   else 'observation')
    names = {'actor': learner.actor, 'critics': learner.critics,
             'actor_memory': learner.actor_memory, 'critic_memory': learner.critic_memory}
    for name in names:
        learner._optimisers()[name].vector.add_(torch.randn(
            learner._optimisers()[name].vector.shape,
            generator=torch.Generator().manual_seed(3)), alpha=0.3)
    memories = [memory.plain() for memory in (
        learner.actor_memory, learner.critic_memory, learner.target_memory)]
    actor, *critics = learner.actor.member(0), *(learner.critics.member(i) for i in (0, 1))
    slow = [learner.target_critics.member(i) for i in (0, 1)]
    temperature = learner.log_temperature.exp().item()
    generator = learner._generator.get_state()
    for adam in learner._optimisers().values():
        monkeypatch.setattr(adam, 'step', lambda gradient: None)
    learner.update()

    learner._generator.set_state(generator)
    windows = learner.buffer.windows(8, 3, 5, learner._generator)
    noise = torch.zeros(80, 2).normal_(generator=learner._generator)
    sample, count = windows.sample, int(windows.there.sum())
    assert count < 40, 'there is padding'
    assert not windows.known.all() and windows.known.any()
    loss_q, loss_pi = 0.0, 0.0
    for s in range(8):
        before = windows.before[windows.known[:, s], s]
        length = int(windows.there[:, s].sum())
        row = [t * 8 + s for t in range(length)]
        seen = torch.cat((sample.observation[row], sample.next_observation[row[-1:]]))
        h = [run(memory, before, seen) for memory in memories]
        for t, r in enumerate(row):
            o, following = sample.observation[r], sample.next_observation[r]
            x = sample.privileged[r] if privileged else o[:0]
            x_next = sample.next_privileged[r] if privileged else o[:0]

            def act(given, at, n):
                mean, raw = actor(torch.cat((given, h[0][at]))[None]).chunk(2, 1)
                return squash(mean, raw.clamp(LOG_STD_MIN, LOG_STD_MAX), n[None])

            with torch.no_grad():
                action, log_p = act(following, t + 1, noise[40 + r])
                q = min(net(torch.cat((following, h[2][t + 1], x_next, action[0])))
                        for net in slow)
                y = sample.reward[r] + 0.99 * (1 - sample.terminated[r]) * (
                    q - temperature * log_p[0])
            for net in critics:
                q = net(torch.cat((o, h[1][t], x, sample.action[r])))[0]
                loss_q = loss_q + 0.5 * (q - y[0]).square() / count
            action, log_p = act(o, t, noise[r])
            q = torch.stack([net(torch.cat((o, h[1][t].detach(), x, action[0])))[0]
                             for net in critics]).min()
            loss_pi = loss_pi + (temperature * log_p[0] - q) / count
    wanted = {}
    pieces = {'actor': [actor], 'actor_memory': memories[:1]}, {
        'critics': critics, 'critic_memory': memories[1:2]}
    for loss, parts in zip((loss_pi, loss_q), pieces):
        for name, modules in parts.items():
            wanted[name] = torch.autograd.grad(
                loss, [p for module in modules for p in module.parameters()], retain_graph=True)
    assert learner.metrics()['critic_loss'] == pytest.approx(loss_q.item(), rel=1e-4)
    for name in ('actor_memory', 'critic_memory'):
        flat = torch.cat([each.flatten() for each in wanted[name]])
        assert flat.abs().max() > 1e-4
        torch.testing.assert_close(names[name].flat_gradient, flat, atol=2e-5, rtol=2e-3)
    torch.testing.assert_close(learner.actor.weight_gradients[0][0].T, wanted['actor'][0],
                               atol=1e-5, rtol=1e-3)
    for i in (0, 1):
        torch.testing.assert_close(learner.critics.weight_gradients[0][i].T,
                                   wanted['critics'][4 * i], atol=1e-5, rtol=1e-3)


def test_the_exported_policy_remembers_as_the_learner_does(make):
    learner = make(normalize_observation=True)
    for _ in range(3):
        learner.update()
    contract = Contract(
        '', 'test', 0.0, 'effort', (), ArraySpec('observation', ('a', 'b', 'c'), ('1',) * 3,
                                                 (None,) * 3, (None,) * 3),
        ArraySpec('action', ('x', 'y'), ('1', '1'), tuple(LOW.tolist()), tuple(HIGH.tolist())),
        'environment')
    bundle = PolicyExporter(
        learner.policy_module(), contract, 'test', learner.name, learner.sampling, memory=tuple(
            StateTensor(f'{name}_in', f'{name}_out', shape)
            for name, shape in learner.memory.items())).export(
        learner.policy_module(), 1, learner.updates, learner.recent_observations(256))
    policy = PolicyRuntime(bundle)
    rows = learner.recent_observations(6)
    answers = []
    for _ in range(2):
        policy.reset()
        learner.forget(np.ones(1, bool))
        for row in rows:
            answers.append(policy.act(row).copy())
            np.testing.assert_allclose(answers[-1], learner.act(row[None], explore=False)[0],
                                       atol=1e-5)
    np.testing.assert_array_equal(answers[:6], answers[6:])
    assert not np.allclose(policy.act(rows[0]), answers[0], atol=1e-6), 'it has lived since'


def test_one_environment_is_forgotten_and_others_are_left_alone(make):
    learner = make()
    for _ in range(2):
        learner.act(np.ones((3, OBSERVATION), np.float32))
    before = learner._state.clone()
    learner.forget(np.array([False, True, False]))
    assert not learner._state[1].any()
    assert torch.equal(learner._state[[0, 2]], before[[0, 2]])
    learner.roll_back(learner.state_dict())
    assert len(learner._state) == 0, 'what is remembered may not be finite'


@pytest.mark.parametrize(('settings', 'message'), [
    ({'variant': 'v_network'}, 'twin_q'), ({'state_dependent_noise': 8}, 'state_dependent_noise'),
    ({'batch_size': 41}, 'not a multiple of sequence_length = 5')])
def test_settings_that_do_not_go_with_a_memory_are_refused(make, settings, message):
    with pytest.raises(TrainingError, match=message):
        make(**settings)


def test_demonstrations_are_refused_with_who_takes_them(make):
    with pytest.raises(TrainingError, match='recurrent_sac does not learn from demonstrations'):
        make().learn_from(episodes())
