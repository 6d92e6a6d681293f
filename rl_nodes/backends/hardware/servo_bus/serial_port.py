# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A serial line with bounded waits on the steady clock; Linux, standard library only."""

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import time

from rl_nodes.core.errors import BackendError

_TIOCGSERIAL, _TIOCSSERIAL, _ASYNC_LOW_LATENCY = 0x541E, 0x541F, 1 << 13  # <linux/serial.h>
_WRITE_TIMEOUT_S = 0.1


class PortLostError(BackendError):
    """The device is gone; only opening it again helps."""


class SerialPort:
    """
    One open serial port: raw, 8N1, not shared with another process.

    :param path: the device.
    :param baud_rate: [bit/s].
    :raises BackendError: it cannot be opened, is no serial port, or is in use.
    :ivar low_latency: whether the driver agreed to pass bytes on at once.
    """

    def __init__(self, path: str, baud_rate: int) -> None:
        self.path = path
        self._file = -1
        try:
            self._file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._configure(getattr(termios, f'B{baud_rate}'))
        except BlockingIOError:
            self.close()
            raise BackendError(f'{path} is in use by another process; stop that one '
                               'first') from None
        except FileNotFoundError:
            raise BackendError(f'{path} does not exist; is the adapter plugged in? See '
                               '/dev/serial/by-id for what is') from None
        except PermissionError:
            raise BackendError(f'{path}: permission denied; add the user to the group dialout and '
                               'log in again') from None
        except (OSError, termios.error) as error:
            self.close()
            raise BackendError(f'{path} cannot be used as a serial port at {baud_rate} bit/s: '
                               f'{error}') from None
        self.low_latency = self._ask_low_latency()
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)

    def _configure(self, speed: int) -> None:
        settings = termios.tcgetattr(self._file)
        settings[0] = settings[1] = settings[3] = 0
        settings[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
        settings[4] = settings[5] = speed
        settings[6][termios.VMIN] = settings[6][termios.VTIME] = 0
        termios.tcsetattr(self._file, termios.TCSANOW, settings)
        termios.tcflush(self._file, termios.TCIOFLUSH)

    def _ask_low_latency(self) -> bool:
        """FTDI adapters otherwise keep bytes for 16 ms; other drivers may not know the call."""
        state = bytearray(128)
        try:
            fcntl.ioctl(self._file, _TIOCGSERIAL, state)
            flags = struct.unpack_from('i', state, 16)[0]
            struct.pack_into('i', state, 16, flags | _ASYNC_LOW_LATENCY)
            fcntl.ioctl(self._file, _TIOCSSERIAL, state)
        except OSError:
            return False
        return True

    def write(self, data: bytes) -> None:
        """
        Hand all of ``data`` to the driver.

        :raises PortLostError: the device is gone, or took nothing for 0.1 s.
        """
        deadline = time.monotonic() + _WRITE_TIMEOUT_S
        while data:
            try:
                data = data[os.write(self._file, data):]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([], [self._file], [], left)[1]:
                    raise PortLostError(f'{self.path} takes no bytes any more') from None
            except OSError as error:
                raise self._lost(error) from None

    def read(self, deadline: float) -> bytes:
        """
        Return what has arrived, waiting for the first byte.

        :param deadline: steady time at which waiting ends [s]; past: do not wait.
        :return: empty if nothing came.
        :raises PortLostError: the device is gone.
        """
        left_ms = max(0.0, deadline - time.monotonic()) * 1e3
        if not self._poll.poll(left_ms):
            return b''
        try:
            data = os.read(self._file, 4096)
        except BlockingIOError:
            return b''
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            raise self._lost(OSError(errno.EIO, 'end of file'))
        return data

    def discard(self) -> int:
        """Throw away what has arrived and return how many bytes that was."""
        count = 0
        while data := self.read(0.0):
            count += len(data)
        return count

    def _lost(self, error: OSError) -> PortLostError:
        return PortLostError(f'{self.path} vanished ({error.strerror}); plug the adapter in and '
                             'reconnect')

    def close(self) -> None:
        """Release the port; may be called twice."""
        file, self._file = self._file, -1
        if file >= 0:
            with contextlib.suppress(OSError):
                os.close(file)
