# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Lines out of byte streams, and a console that waits for nobody."""

import os

import pytest
from rl_nodes.console import Console, LineSplitter, MAX_LINE, PROGRESS_PERIOD_S


def split(*chunks, now_s=0.0):
    splitter = LineSplitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk, now_s)]
    return lines, splitter.finish()


@pytest.mark.parametrize(('chunks', 'lines', 'rest'), [
    ((b'a\nb\n',), ['a', 'b'], []),
    ((b'a', b'b\nc'), ['ab'], ['c']),
    ((b'a\r\nb\r\n',), ['a', 'b'], []),
    ((b'a\r', b'\nb'), ['a'], ['b']),
    ((b'\n\n',), ['', ''], []),
    ((b'\xc3', b'\xbc\n'), ['ü'], []),
    ((b'10 %\r20 %\r30 %\n',), ['30 %'], []),
])
def test_lines(chunks, lines, rest):
    # Progress was shown a moment ago, so only what a line ends with counts.
    splitter = LineSplitter()
    splitter.feed(b'x\ry', 0.0)
    splitter.finish()
    found = [line for chunk in chunks for line in splitter.feed(chunk, 1.0)]
    assert (found, splitter.finish()) == (lines, rest)


def test_progress_bar_is_shown_now_and_then():
    splitter = LineSplitter()
    shown = [splitter.feed(f'\r{second} %'.encode(), float(second)) for second in range(12)]
    assert sum(shown, []) == ['0 %', '5 %', '10 %']
    assert PROGRESS_PERIOD_S == 5.0
    assert splitter.finish() == ['11 %']


def test_endless_line_is_cut():
    lines, rest = split(b'x' * (MAX_LINE + 5))
    assert [len(line) for line in lines + rest] == [MAX_LINE, 5]


def test_colour_per_source():
    reader, writer = os.pipe()
    console = Console(writer, colour=True)
    console.start()
    console.line('a', 'one')
    console.line('b', 'two')
    console.line('runner', 'three', alarm=True)
    console.close()
    os.close(writer)
    with os.fdopen(reader) as output:
        first, second, third = output.read().splitlines()
    assert first.endswith(' one')
    assert first.split('[a]')[0] != second.split('[b]')[0]
    assert '\033[31mthree' in third


def test_nobody_reads():
    reader, writer = os.pipe()
    console = Console(writer, colour=False)
    console.start()
    for number in range(20_000):
        console.line('a', f'{number} ' + 'x' * 100)
    console.close(0.1)
    os.close(reader)
    os.close(writer)


def test_broken_output_is_noticed():
    reader, writer = os.pipe()
    os.close(reader)
    console = Console(writer, colour=False)
    console.start()
    console.line('a', 'one')
    console.close()
    os.close(writer)
    assert console.broken


@pytest.mark.parametrize(('name', 'value', 'coloured'), [
    ('TERM', 'xterm', True), ('TERM', 'dumb', False), ('NO_COLOR', '1', False)])
def test_colours_where_a_terminal_wants_them(monkeypatch, name, value, coloured):
    monkeypatch.delenv('NO_COLOR', raising=False)
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv(name, value)
    ours, theirs = os.openpty()
    try:
        assert Console(theirs).colour == coloured
    finally:
        os.close(ours)
        os.close(theirs)
