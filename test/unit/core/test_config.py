# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Every mistake in a YAML file is answered with its file, key, value and what is allowed."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
import pytest
from rl_nodes.core.config import convert, load, parse_yaml
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    """A nested record."""

    rate: float


class Outer(Struct, frozen=True, forbid_unknown_fields=True):
    """A record with a range, an optional record and a mapping of records."""

    gamma: Annotated[float, Meta(gt=0, le=1)]
    inner: Inner | None = None
    table: dict[str, Inner] = {}


@pytest.mark.parametrize(('data', 'parts'), [
    ({'gama': 1.0}, ["'gama'", "did you mean 'gamma'", 'allowed: gamma, inner, table']),
    ({'gamma': 2.0}, ['gamma', '2.0', '<= 1.0']),
    ({'gamma': 'x'}, ['gamma', "'x'", 'float']),
    ({'gamma': 0.5, 'inner': {'rat': 1}}, ["'rat'", 'inner', 'allowed: rate']),
    ({'gamma': 0.5, 'table': {'a': {'rate': 1.0}, 'b': {'rte': 1}}},
     ["'rte'", 'at table.b', "did you mean 'rate'"]),
    ({'gamma': 0.5, 'table': {'b': {'rate': 'x'}}}, ['table.b.rate', "'x'"]),
    ({}, ['missing', 'gamma']),
    ({'gamma': float('nan')}, ['gamma', 'finite']),
    ({'gamma': 0.5, 'inner': {'rate': float('inf')}}, ['inner.rate', 'finite']),
])
def test_error_names_file_key_value_and_what_is_allowed(data: dict, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        convert(data, Outer, 'file.yaml')
    for part in ['file.yaml', *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(('text', 'part'), [
    ('a: 1\na: 2', "'a' occurs twice"),
    ('- 1', 'list'),
    ('a: &x 1\nb: *x', 'aliases'),
    ('a: [', 'not valid YAML'),
    ('1: 2', 'not text'),
    ('a: !!python/object/apply:os.system ["true"]', 'not valid YAML'),
])
def test_malformed_yaml_is_refused(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match='f.yaml') as caught:
        parse_yaml(text, 'f.yaml')
    assert part in str(caught.value)


def test_exponent_without_point_is_a_number_as_ros_reads_it() -> None:
    assert parse_yaml('a: 1e-3\nb: 1.5e3\nc: -2E+1', 's') == {'a': 1e-3, 'b': 1.5e3, 'c': -20.0}


def test_missing_oversized_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='cannot be read'):
        load(tmp_path / 'none.yaml', Outer)
    large = tmp_path / 'large.yaml'
    large.write_text('a: ' + 'x' * (1 << 20))
    with pytest.raises(ConfigError, match='at most'):
        load(large, Outer)
    binary = tmp_path / 'binary.yaml'
    binary.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ConfigError, match='cannot be read'):
        load(binary, Outer)


def test_unknown_name_lists_what_exists() -> None:
    with pytest.raises(ConfigError, match=r"unknown robot 'arn'.*did you mean 'arm'.*cartpole"):
        find_config('robots', 'arn')
    with pytest.raises(ConfigError, match=r"unknown algorithm 'sca'.*sac"):
        find_config('train', 'sca')
