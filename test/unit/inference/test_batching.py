# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Several robots in one run: the answers that each has by itself, whatever the others send."""

from collections.abc import Iterator
from functools import cache

import msgspec
import numpy as np
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, NotFiniteError, OrderError, SpecError
from rl_nodes.core.pictures import PictureSpec
from rl_nodes.core.types import RobotState
from rl_nodes.inference.actors import Cast, SingleActor
from rl_nodes.inference.batcher import Batcher
from rl_nodes.inference.batching import Answer, BatchRuntime, Query
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.chunking import ChunkLayout
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.memory import StateTensor
from rl_nodes.inference.probes import probe_pictures
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.inference.trial import PolicyTrial
import torch
from torch import nn

OBS, ACT, HIDDEN, ROBOTS, PERIOD = 5, 2, 8, 4, 20_000_000
SPECS = (PictureSpec('wrist', 16, 12), PictureSpec('front', 10, 8))


class Net(nn.Module):
    """One network of many kinds; some fail where the first element is great."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.layout = kind, ()
        width = OBS
        if kind in ('LSTM', 'GRU'):
            self.body = getattr(nn, kind)(OBS, HIDDEN, 2)
            self.layout = tuple(StateTensor(f'{name}_in', f'{name}_out', (2, 1, HIDDEN))
                                for name in ('hc' if kind == 'LSTM' else 'h'))
            width = HIDDEN
        elif kind == 'transformer':
            self.embedding = nn.Linear(1, HIDDEN)
            self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(
                HIDDEN, 2, 16, dropout=0.0, batch_first=True), 1)
            width = HIDDEN
        elif kind in ('sees', 'sees and remembers'):
            self.eyes = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten())
                                      for _ in SPECS)
            width += sum(eye(torch.zeros(1, 3, *spec.shape[:2])).shape[1]
                         for eye, spec in zip(self.eyes, SPECS))
            if kind == 'sees and remembers':
                self.body = nn.GRUCell(width, HIDDEN)
                self.layout, width = (StateTensor('h_in', 'h_out', (1, HIDDEN)),), HIDDEN
        elif kind == 'compares robots':  # the exporter asks what remembers one by one
            self.layout = (StateTensor('h_in', 'h_out', (1, OBS)),)
        elif kind == 'remembers without a place for others':
            self.layout = (StateTensor('h_in', 'h_out', (2, HIDDEN)),)
        # Parameters that most kinds do not use are not exported.
        self.token = nn.Parameter(torch.ones(1, 1, OBS))
        self.table = nn.Parameter(torch.randn(64, ACT))
        self.head = nn.Linear(width, 3 * ACT if kind == 'plans' else ACT)

    def forward(self, observation: torch.Tensor,
                *more: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        x, edge, after = observation, observation[:, :1], ()
        if self.kind in ('LSTM', 'GRU'):
            x, hidden = self.body(x[None], more if self.kind == 'LSTM' else more[0])
            x, after = x[0], hidden if self.kind == 'LSTM' else (hidden,)
        elif self.kind == 'transformer':
            x = self.body(self.embedding(x[:, :, None])).mean(1)
        elif self.kind in ('sees', 'sees and remembers'):
            x = torch.cat([x, *(eye(picture.permute(0, 3, 1, 2).float() / 255)
                                for eye, picture in zip(self.eyes, more))], 1)
            if self.layout:
                x = self.body(x, more[-1])
                after = (x,)
        elif self.kind == 'compares robots':
            x = torch.softmax(x, 0) + x
            after = (more[0] * 0.5 + x,)
        elif self.kind == 'has a token of its own':
            x = torch.cat([self.token.expand(len(x), -1, -1), x[:, None]], 1).sum(1)
        elif self.kind == 'remembers without a place for others':
            after = (more[0] * 0.5 + x.mean(),)
        action = torch.tanh(self.head(x))
        if self.kind == 'plans':
            return action.reshape(-1, 3, ACT)
        if self.kind == 'divides':  # by zero beyond the edge
            action = action / (edge < 50.0).float()
        elif self.kind == 'looks up':  # beyond the table
            action = torch.tanh(action + torch.nn.functional.embedding(
                edge[:, 0].abs().long(), self.table))
        return (action, *after) if after else action


@cache
def bundle_of(kind: str, contract: Contract) -> PolicyBundle:
    net = Net(kind)
    if kind.startswith('sees'):
        contract = msgspec.structs.replace(contract, pictures_spec=SPECS)
    return PolicyExporter(net, contract, kind.replace(' ', '_'), 'none', 'deterministic',
                          chunk=ChunkLayout(3) if kind == 'plans' else None,
                          memory=net.layout).export(net, 1, 0)


def asked(policy: PolicyRuntime, step: int, memories: list, robots: int = ROBOTS) -> list[Query]:
    rows = np.random.default_rng(step).standard_normal((robots, OBS)).astype(np.float32)
    return [Query(row, memory, probe_pictures(policy.contract.pictures, 10 * step + number))
            for number, (row, memory) in enumerate(zip(rows, memories))]


def memories(policy: PolicyRuntime, robots: int = ROBOTS) -> list:
    return [policy.memory() for _ in range(robots)]


@pytest.fixture(scope='module')
def lstm(contract: Contract) -> BatchRuntime:
    return BatchRuntime(bundle_of('LSTM', contract), ROBOTS)


# --- answers --------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', ['plain', 'LSTM', 'GRU', 'transformer', 'sees',
                                  'sees and remembers'])
def test_each_robot_gets_the_answers_that_it_gets_by_itself(kind: str, contract: Contract) -> None:
    bundle = bundle_of(kind, contract)
    together, alone = BatchRuntime(bundle, ROBOTS), PolicyRuntime(bundle)
    theirs, mine = memories(together), memories(alone)
    for step in range(12):
        robots = step % ROBOTS + 1  # the others did not ask
        wanted = [alone.act(*query).copy() for query in asked(alone, step, mine[:robots], robots)]
        found = together.act_all(asked(together, step, theirs[:robots], robots))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        if robots == 1:
            np.testing.assert_array_equal(found, wanted)
        assert np.abs(np.diff(wanted, axis=0)).max(initial=1.0) > 1e-4


def test_a_squashed_gaussian_answers_with_its_mean(bundle: PolicyBundle) -> None:
    policy = BatchRuntime(bundle, ROBOTS)
    queries = asked(policy, 0, [None] * ROBOTS)
    np.testing.assert_allclose(policy.act_all(queries), [
        policy.act(*query).copy() for query in queries], rtol=1e-5, atol=1e-5)


def broken(query: Query, how: str) -> Query:
    observation = query.observation.copy()
    if how == 'edge':
        observation[0] = 60.0
    elif how == 'far beyond':
        observation[0] = 100.0
    elif how == 'shape':
        observation = observation[1:]
    elif how == 'no pictures':
        return query._replace(pictures=())
    else:
        observation[2] = float(how)
    return query._replace(observation=observation)


@pytest.mark.parametrize(('kind', 'how', 'message'), [
    ('plain', 'nan', 'o2 = nan'), ('plain', '-inf', 'o2 = -inf'), ('plain', 'shape', 'expected'),
    ('LSTM', 'nan', 'o2 = nan'), ('sees', 'no pictures', '0 pictures came'),
    ('divides', 'edge', 'action: not finite'),
    ('looks up', 'far beyond', 'failed while running')])
def test_what_is_wrong_with_one_spoils_no_other(kind: str, how: str, message: str,
                                                contract: Contract) -> None:
    bundle = bundle_of(kind, contract)
    policy, alone = BatchRuntime(bundle, ROBOTS), PolicyRuntime(bundle)
    theirs, mine = memories(policy), memories(alone)
    for step in range(4):
        victim = step % ROBOTS
        queries = asked(policy, step, theirs)
        queries[victim] = broken(queries[victim], how)
        answers = policy.act_all(queries)
        assert isinstance(answers[victim], (SpecError, BundleError))
        assert message in str(answers[victim])
        assert isinstance(answers[victim], NotFiniteError) == message.startswith(('o2', 'action:'))
        for number, query in enumerate(asked(alone, step, mine)):
            if number != victim:  # whose memory stays where it was
                np.testing.assert_allclose(answers[number], alone.act(*query), rtol=1e-5,
                                           atol=1e-5)
    clean = policy.act_all(asked(policy, 9, theirs))
    np.testing.assert_allclose(clean, [alone.act(*query).copy() for query in asked(
        alone, 9, mine)], rtol=1e-5, atol=1e-5)


# --- what does not fit ----------------------------------------------------------------------

@pytest.mark.parametrize(('kind', 'message'), [
    ('compares robots', r'answers number \d with .* to it alone'),
    ('has a token of its own', 'does not take several observations'),
    ('plans', 'answers with chunks'),
    ('remembers without a place for others', r'h_in <- h_out float32\[2, 8\] has no dimension')])
def test_a_graph_that_does_not_fit_is_refused(kind: str, message: str,
                                              contract: Contract) -> None:
    bundle = bundle_of(kind, contract)
    PolicyRuntime(bundle)
    with pytest.raises(BundleError, match=rf'cannot answer several .*{message}.*batch:=false'):
        BatchRuntime(bundle, ROBOTS)


def test_it_is_tried_out_elsewhere_as_it_will_be_used(contract: Contract) -> None:
    bundle = bundle_of('compares robots', contract)
    PolicyTrial().admit(bundle)
    with pytest.raises(BundleError, match='to it alone'):
        PolicyTrial(rows=2).admit(bundle)  # which would make a runtime for one robot here


def test_a_batch_has_to_be_ready_within_a_period(contract: Contract,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_of('plain', contract)
    clock = iter(range(0, 10**12, 10**7))  # each look at it is 10 ms later, a period has 20
    monkeypatch.setattr('rl_nodes.inference.runtime.steady_ns', lambda: next(clock))
    BatchRuntime(bundle, 2)
    late = iter([*range(0, 6), *range(0, 10**9, 3 * 10**7)])
    monkeypatch.setattr('rl_nodes.inference.runtime.steady_ns', lambda: next(late))
    with pytest.raises(BundleError, match='one run for 3 robots takes longer'):
        BatchRuntime(bundle, 3)


# --- gathering ------------------------------------------------------------------------------

class Robot:
    """Asks as a client of the policy server does, and keeps the answers."""

    def __init__(self, batcher: Batcher, policy: PolicyRuntime | None) -> None:
        self.batcher, self.cast = batcher, Cast()
        self.answers: list[Answer | None] = []
        if policy is not None:
            self.use(policy)

    def use(self, policy: PolicyRuntime) -> None:
        self.cast.use(SingleActor(policy, None))

    def ask(self, step: int) -> np.ndarray:
        observation = np.random.default_rng(step).standard_normal(OBS).astype(np.float32)
        self.batcher.settle(self.cast)
        self.batcher.add(self.cast, observation, RobotState(
            step * PERIOD, '1@0', np.zeros(2), np.zeros(2), np.zeros(2)), self.keep)
        return observation

    def keep(self, answer: Answer | None) -> None:
        self.answers.append(answer.copy() if isinstance(answer, np.ndarray) else answer)


@pytest.fixture
def policies(contract: Contract) -> Iterator[tuple[BatchRuntime, BatchRuntime]]:
    bundle = bundle_of('plain', contract)
    yield BatchRuntime(bundle, ROBOTS), BatchRuntime(bundle, ROBOTS)


def test_all_that_have_asked_are_answered_in_one_run(policies: tuple[BatchRuntime, ...]) -> None:
    batcher = Batcher()
    robots = [Robot(batcher, policies[0]) for _ in range(ROBOTS)]
    for step, asking in enumerate((robots, robots[1:2], robots[:3], [])):
        wanted = [policies[0].act(robot.ask(10 * step + number)).copy()
                  for number, robot in enumerate(asking)]
        assert not any(robot.answers for robot in robots), 'before the end of the burst'
        batcher.flush()
        for robot, action in zip(asking, wanted):
            np.testing.assert_allclose(robot.answers.pop(), action, rtol=1e-5, atol=1e-5)
    assert not any(robot.answers for robot in robots)
    assert batcher.details() == {'batches': 3, 'batch_mean': 2.67, 'batch_max': 4}


def test_a_second_state_of_one_robot_is_answered_after_its_first(lstm: BatchRuntime) -> None:
    batcher = Batcher()
    first, second = Robot(batcher, lstm), Robot(batcher, lstm)
    alone = lstm.memory()
    wanted = []
    for step in range(3):
        row = first.ask(step)
        assert len(first.answers) == step
        wanted.append(lstm.act(row, alone).copy())
    second.ask(7)
    batcher.flush()
    np.testing.assert_allclose(first.answers, wanted, rtol=1e-5, atol=1e-5)
    assert len(second.answers) == 1
    first.ask(1)  # came after a newer one
    second.ask(8)
    batcher.flush()
    assert isinstance(first.answers[-1], OrderError)
    assert isinstance(second.answers[-1], np.ndarray)


def test_a_newer_policy_takes_over_between_two_batches(
        policies: tuple[BatchRuntime, BatchRuntime]) -> None:
    batcher = Batcher()
    robots = [Robot(batcher, policies[0]) for _ in range(3)]
    robots.append(Robot(batcher, None))
    for robot in robots:
        robot.ask(1)
    robots[1].use(policies[1])  # of a swap that is under way
    batcher.flush()
    assert batcher.details()['batches'] == 2
    assert [robot.cast.acting and robot.cast.acting.policy for robot in robots] == [
        policies[0], policies[1], policies[0], None]
    assert robots[3].answers == [None], 'nobody acts'
    for robot in robots:
        robot.use(policies[1])
        robot.ask(2)
    batcher.flush()
    assert batcher.details() == {'batches': 3, 'batch_mean': 2.33, 'batch_max': 4}
    for robot in robots:
        np.testing.assert_allclose(robot.answers[-1], robots[0].answers[-1], atol=1e-6)
