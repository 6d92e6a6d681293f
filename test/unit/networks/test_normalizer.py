# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Running statistics against numpy on everything at once."""

import numpy as np
from rl_nodes.networks.normalizer import CLIP, ObservationNormalizer
import torch


def test_batches_of_any_size_give_the_statistics_of_all_rows():
    rows = np.random.default_rng(0).normal(1e4, [1e-2, 5.0, 300.0], (1000, 3)).astype(np.float32)
    normalizer = ObservationNormalizer(3)
    for part in np.split(rows, [1, 1, 2, 40, 700]):
        normalizer.update(torch.from_numpy(part))
    exact = rows.astype(np.float64)
    assert normalizer.count == 1000
    np.testing.assert_allclose(normalizer.mean, exact.mean(0), rtol=1e-9)
    np.testing.assert_allclose(normalizer.variance, exact.var(0), rtol=1e-6)


def test_before_data_it_is_the_identity_and_far_values_are_clipped():
    normalizer = ObservationNormalizer(2)
    x = torch.tensor([[0.5, 1e6]])
    assert normalizer.frozen()(x).tolist() == [[0.5, CLIP]]


def test_constant_element_is_centred_and_its_noise_not_amplified():
    normalizer = ObservationNormalizer(1)
    normalizer.update(torch.full((100, 1), 3.0))
    normalized = normalizer.frozen()(torch.tensor([[3.0], [3.000001]]))
    assert normalized.abs().max() < 0.01


def test_frozen_copy_does_not_follow():
    normalizer = ObservationNormalizer(1)
    normalizer.update(torch.tensor([[1.0], [3.0]]))
    frozen = normalizer.frozen()
    before = frozen(torch.tensor([[5.0]])).item()
    normalizer.update(torch.tensor([[100.0], [200.0]]))
    assert frozen(torch.tensor([[5.0]])).item() == before
    x = torch.tensor([[1.0], [3.0]])
    torch.testing.assert_close(normalizer.normalize_into(x.clone(), x.clone()),
                               normalizer.frozen()(x))


def test_state_round_trip():
    first, second = ObservationNormalizer(2), ObservationNormalizer(2)
    first.update(torch.tensor([[1.0, 2.0], [5.0, 9.0]]))
    second.load_state_dict(first.state_dict())
    x = torch.tensor([[0.0, 0.0]])
    assert torch.equal(first.frozen()(x), second.frozen()(x))
    second.load_state_dict(ObservationNormalizer(2).state_dict())
    assert torch.equal(second.frozen()(x), x)
