# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Buttons behind files, pipes and serial lines."""

import os
from pathlib import Path
import threading
import time

import pytest
from rl_nodes.backends.hardware.estop_line import EstopLine, Line, MOST_BYTES, Reading
from rl_nodes.core.safety_config import EstopLineConfig


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    value = tmp_path / 'value'
    value.write_text('1\n')
    line = Line(str(value), '1')
    assert line.read() is False
    value.write_text('0\n')
    assert line.read() is True
    value.write_text('')
    assert line.read() is True, 'whatever is not the text for released'
    other = tmp_path / 'other'
    other.write_text('1')
    other.rename(value)
    assert line.read() is False
    value.unlink()
    with pytest.raises(FileNotFoundError):
        line.read()
    value.write_text('1')
    assert line.read() is False, 'it has come back'


@pytest.mark.parametrize('kind', ['pipe', 'terminal'])
def test_a_stream_speaks_in_whole_lines(tmp_path: Path, kind: str) -> None:
    if kind == 'pipe':
        path = str(tmp_path / 'pipe')
        os.mkfifo(path)
        line = Line(path, 'ok')
        assert line.read() is None, 'nobody writes yet'
        writer = os.open(path, os.O_WRONLY)
    else:
        writer, slave = os.openpty()
        line = Line(os.ttyname(slave), 'ok')
    try:
        assert line.read() is None
        for said, heard in ((b'ok\n', False), (b'o', None), (b'k\n', False), (b'\n', None),
                            (b'ok\nPRESSED\nok\n', True), (b'ok\nok\n', False)):
            os.write(writer, said)
            assert line.read() is heard, said
        if kind == 'pipe':
            os.write(writer, b'x' * MOST_BYTES)
            assert line.read() is None
            os.write(writer, b'x')
            assert line.read() is True, 'a line without an end'
    finally:
        line.close()
        os.close(writer)


def test_a_terminal_that_was_unplugged_is_pressed_and_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / 'button'
    line = Line(str(path), 'ok')
    for _ in range(2):
        writer, slave = os.openpty()
        path.unlink(missing_ok=True)
        path.symlink_to(os.ttyname(slave))
        assert line.read() is None
        os.write(writer, b'ok\n')
        assert line.read() is False
        os.close(slave)
        os.close(writer)
        with pytest.raises(OSError, match='unplugged'):
            line.read()


def until(found: list[Reading], line: EstopLine, wanted: bool, woken: threading.Event) -> Reading:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert woken.wait(10)
        woken.clear()
        found += line.readings()
        if found and found[-1].pressed == wanted:
            return found[-1]
    raise AssertionError(found)


def test_the_thread_notes_what_it_reads_and_what_it_cannot(tmp_path: Path) -> None:
    value, woken, found = tmp_path / 'value', threading.Event(), []
    value.write_text('0')
    line = EstopLine(EstopLineConfig(path=str(value), released='0', rate_hz=500.0), woken.set)
    try:
        assert until(found, line, False, woken).error == ''
        value.write_text('1')
        assert until(found, line, True, woken).error == ''
        value.write_text('0')
        until(found, line, False, woken)
        value.unlink()
        assert 'No such file' in until(found, line, True, woken).error
        at = [reading.steady_ns for reading in found]
        assert at == sorted(at)
    finally:
        line.close()
    assert not line._thread.is_alive()
