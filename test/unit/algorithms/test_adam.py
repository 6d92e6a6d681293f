# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
from rl_nodes.algorithms.adam import Adam
import torch


def test_steps_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(100, generator=generator)
    ours, theirs = start.clone(), torch.nn.Parameter(start.clone())
    adam, reference = Adam(ours, 1e-2), torch.optim.Adam([theirs], 1e-2)
    for _ in range(20):
        gradient = torch.randn(100, generator=generator)
        theirs.grad = gradient.clone()
        reference.step()
        adam.step(gradient)
    torch.testing.assert_close(ours, theirs.detach())
    assert adam.steps == 20


def test_state_round_trip():
    first, second = torch.ones(3), torch.ones(3)
    one, two = Adam(first, 0.1), Adam(second, 0.1)
    one.step(torch.tensor([1.0, 2.0, -3.0]))
    second.copy_(first)
    two.load_state_dict(one.state_dict())
    for adam in (one, two):
        adam.step(torch.tensor([0.5, 0.5, 0.5]))
    assert torch.equal(first, second)


def test_a_weight_without_gradient_leaves_no_denormal_moments():
    adam = Adam(torch.zeros(4), 1e-3)
    adam.step(torch.tensor([1.0, -1e-3, 1e-20, 0.0]))
    for _ in range(1500):
        adam.step(torch.zeros(4))
    assert (adam.mean == 0.0).all()
    assert (torch.full((4,), torch.finfo(torch.float32).tiny) / 2).all(), 'elsewhere they count'
