# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Transitions survive the trip through labelled float32 columns; everything else is refused."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rl_nodes.core.errors import SpecError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.experience import (
    columns,
    decode,
    encode,
    format_columns,
    LAYOUT,
    layout_columns,
    parse_columns,
)


def make_batch(count: int, seed: int = 0, observations: int = 5, actions: int = 2,
               ) -> TransitionBatch:
    rng = np.random.default_rng(seed)

    def floats(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def flags():
        return rng.random(count) < 0.5

    return TransitionBatch(
        floats(count, observations), floats(count, actions), floats(count, actions),
        floats(count), floats(count, observations), flags(), flags(), flags(), flags(),
        rng.integers(-1, 2**40, count), rng.integers(0, 2**46, count),
        rng.integers(0, 2**26, count))


def assert_equal(a: TransitionBatch, b: TransitionBatch) -> None:
    assert a.columns().keys() == b.columns().keys()
    for name, x in a.columns().items():
        y = b.columns()[name]
        assert x.dtype == y.dtype and x.shape == y.shape, name
        np.testing.assert_array_equal(x, y, name)


def message(batch):
    labels, data = encode(batch)
    return LAYOUT, len(batch), format_columns(labels), data


@pytest.mark.parametrize('count', [0, 1, 7])
def test_a_batch_comes_back_bit_for_bit(count):
    batch = make_batch(count)
    layout, rows, text, data = message(batch)
    assert data.dtype == np.float32 and data.shape == (count * 25,)
    assert_equal(decode(layout, rows, text, data), batch)
    assert_equal(decode(layout, rows, text, data.tolist(), layout_columns(5, 2)), batch)


def test_the_label_names_every_column():
    assert format_columns(columns(make_batch(1))) == (
        'observation:5,action:2,wanted:2,reward:1,next_observation:5,terminated:1,truncated:1,'
        'success:1,limited:1,policy_version:2,episode:2,step:2')


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-2**47 + 1, 2**47 - 1), min_size=1, max_size=8))
def test_integers_beyond_the_precision_of_float32_are_exact(values):
    array = np.array(values, np.int64)
    batch = replace(make_batch(len(values)), policy_version=array, episode=array[::-1])
    came = decode(*message(batch))
    np.testing.assert_array_equal(came.policy_version, array)
    np.testing.assert_array_equal(came.episode, array[::-1])


@pytest.mark.parametrize('value', [2**47, -2**47, -2**63, 2**63 - 1])
def test_integers_that_do_not_fit_are_refused_by_the_sender(value):
    with pytest.raises(SpecError, match='step from'):
        encode(replace(make_batch(1), step=np.array([value])))


def test_vectors_that_differ_in_width_are_refused_by_the_sender():
    batch = make_batch(2)
    with pytest.raises(SpecError, match=r'wanted has shape \(2, 3\), expected \(2, 2\)'):
        encode(replace(batch, wanted=np.zeros((2, 3), np.float32)))


def with_privileged(batch):
    more = np.arange(3 * len(batch), dtype=np.float32).reshape(-1, 3)
    return replace(batch, privileged=more, next_privileged=more + 0.5)


@pytest.mark.parametrize('count', [0, 7])
def test_privileged_columns_come_back_and_only_where_they_are_due(count):
    batch = with_privileged(make_batch(count))
    layout, rows, text, data = message(batch)
    assert text.endswith(',privileged:3,next_privileged:3')
    assert_equal(decode(layout, rows, text, data), batch)
    assert_equal(decode(layout, rows, text, data, layout_columns(5, 2, 3)), batch)
    with pytest.raises(SpecError, match='got privileged:3 as column 12, expected nothing'):
        decode(layout, rows, text, data, layout_columns(5, 2))
    with pytest.raises(SpecError, match='got nothing as column 12, expected privileged:3'):
        decode(*message(make_batch(count)), layout_columns(5, 2, 3))
    whole = TransitionBatch.concatenate([batch, batch])
    assert whole.privileged.shape == whole.next_privileged.shape == (2 * count, 3)
    with pytest.raises(ValueError, match='come together'):
        replace(batch, next_privileged=None)


def test_another_layout_version_is_refused():
    _, rows, text, data = message(make_batch(2))
    with pytest.raises(SpecError, match="got 'transitions/v2', expected 'transitions/v1'"):
        decode('transitions/v2', rows, text, data)


@pytest.mark.parametrize('old, new, said', [
    ('reward:1', 'return:1', 'got return:1 as column 3, expected reward:1'),
    ('wanted:2', 'wanted:3', 'got wanted:3 as column 2, expected wanted:2'),
    ('step:2', 'step:1', 'got step:1 as column 11, expected step:2'),
    (',step:2', '', 'got nothing as column 11, expected step:2'),
    ('step:2', 'step:2,more:1', 'got more:1 as column 12, expected nothing'),
    ('action:2,wanted:2', 'wanted:2,action:2', 'got wanted:2 as column 1'),
    ('step:2', 'step', "got 'step', expected <name>:<width>"),
    ('step:2', 'step:-2', "got 'step:-2', expected <name>:<width>"),
    ('step:2', 'step:2,', "got '', expected <name>:<width>"),
])
def test_other_columns_are_refused(old, new, said):
    layout, rows, text, data = message(make_batch(2))
    with pytest.raises(SpecError, match=said):
        decode(layout, rows, text.replace(old, new), data)


def test_columns_of_another_task_are_refused():
    with pytest.raises(SpecError, match='got observation:5 as column 0, expected observation:6'):
        decode(*message(make_batch(2)), layout_columns(6, 2))


@pytest.mark.parametrize('rows, cut', [(3, 0), (2, 1), (-1, 0), (0, 0)])
def test_a_wrong_amount_of_values_is_refused(rows, cut):
    layout, _, text, data = message(make_batch(2))
    with pytest.raises(SpecError, match='rows of 25'):
        decode(layout, rows, text, data[:len(data) - cut])


@pytest.mark.parametrize('column, value, said', [
    (0, np.nan, r'observation\[0\] of row 1 is nan'),
    (9, np.inf, r'reward\[0\] of row 1 is inf'),
    (15, 0.5, 'terminated holds values other than 0 and 1'),
    (18, -1.0, 'limited holds values other than 0 and 1'),
    (20, 0.5, 'policy_version of row 1'),
    (21, 1e30, 'episode of row 1'),
    (24, -1.0, 'step of row 1'),
    (24, 2.0**24, 'step of row 1'),
])
def test_values_that_cannot_be_are_refused(column, value, said):
    layout, rows, text, data = message(make_batch(2))
    data.reshape(2, -1)[1, column] = value
    with pytest.raises(SpecError, match=said):
        decode(layout, rows, text, data)


def test_the_text_of_labels_is_parsed_back():
    labels = layout_columns(21, 6)
    assert parse_columns(format_columns(labels)) == labels
