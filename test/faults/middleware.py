# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults of the middleware: foreign types and names, lost and swapped datagrams, garbage."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import random
import socket
import struct

from actors import Actor, RATE_HZ
from emulators.lossy_network import COMPILER
from faults import Fault, goes_on, Outcome
from rclpy.context import Context
from rclpy.node import Node
from rl_nodes.nodes import qos
from stage import ALLOWED, SAFETY, Stage, STATES, WANTED
from std_msgs.msg import String

SHOWN_S = 5.0      # until discovery and a look once a second have shown something
DATAGRAMS = 10_000
BURST = 20         # datagrams before the stage looks at its own again
LOSSY_S = 2.0


@contextmanager
def stranger(name: str) -> Iterator[Node]:
    """Yield a node of another program."""
    with Context() as context:
        node = Node(name, context=context, use_global_arguments=False)
        try:
            yield node
        finally:
            node.destroy_node()


def other_type(stage: Stage) -> Outcome:
    """Publish something else on the topics of states and commands."""
    at = stage.disturb()
    with stranger('stranger') as node:
        publishers = [node.create_publisher(String, topic, qos.STREAM)
                      for topic in (STATES, WANTED, ALLOWED)]

        def named() -> bool:
            for publisher in publishers:
                publisher.publish(String(data='move'))
            return all(f'/{topic} is std_msgs/msg/String for /stranger' in stage.words[SAFETY]
                       for topic in (STATES, WANTED, ALLOWED))
        told = stage.until(named, SHOWN_S)
    stage.until(lambda: '/stranger' not in stage.words[SAFETY], SHOWN_S)
    return Outcome(f'{"named" if told else "silence"}, {stage.verdict(at)}')


def namesake(stage: Stage) -> Outcome:
    """Start another node that calls itself the safety monitor."""
    at = stage.disturb()
    with stranger('safety_monitor'):
        told = stage.until(lambda: 'the name of another node' in stage.words[SAFETY], SHOWN_S)
    goes_on(stage, at)
    return Outcome(f'{"named" if told else "silence"}, {stage.verdict(at)}')


# --- datagrams -----------------------------------------------------------------------------------

def garbage(stage: Stage) -> Outcome:
    """Send datagrams to every port of every process that are none of DDS, or almost some."""
    draws, at = random.Random(stage.random.random()), stage.disturb()
    ports = sorted({port for actor in stage.actors.values() for port in ports_of(actor)})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(DATAGRAMS):
            sender.sendto(datagram(draws), ('127.0.0.1', draws.choice(ports)))
            if number % BURST == 0:
                stage.pump(0.001)
    goes_on(stage, stage.disturb(), RATE_HZ // 2)
    dead = [actor.name for actor in stage.actors.values() if not actor.alive]
    return Outcome(f'{", ".join(dead) or "all alive"}, {stage.verdict(at)}')


def ports_of(actor: Actor) -> set[int]:
    """Return the UDP ports on which a process listens."""
    inodes = set()
    for entry in Path(f'/proc/{actor.pid}/fd').iterdir():
        kind, _, inode = os.readlink(entry).partition(':')
        if kind == 'socket':
            inodes.add(inode.strip('[]'))
    rows = [line.split() for line in Path('/proc/net/udp').read_text().splitlines()[1:]]
    return {int(row[1].rpartition(':')[2], 16) for row in rows if row[9] in inodes}


def datagram(draws: random.Random) -> bytes:
    """Return noise, or a header of RTPS and submessages whose lengths and contents are noise."""
    body = draws.randbytes(draws.randrange(200))
    kind = draws.randrange(3)
    if kind == 0:
        return body
    header = b'RTPS' + bytes((2, draws.randrange(5), 1, 15)) + draws.randbytes(12)
    if kind == 1:
        return header + body
    submessages = b''
    for _ in range(draws.randrange(1, 4)):
        content = draws.randbytes(draws.randrange(64))
        length = draws.choice((len(content), 0, 0xffff, draws.randrange(1 << 16)))
        submessages += struct.pack('<BBH', draws.choice(SUBMESSAGES), draws.randrange(256),
                                   length) + content
    return header + submessages


# PAD, ACKNACK, HEARTBEAT, GAP, INFO_TS, INFO_SRC, INFO_REPLY_IP4, INFO_DST, INFO_REPLY, NACK_FRAG,
# HEARTBEAT_FRAG, DATA, DATA_FRAG, and those of security.
SUBMESSAGES = (0x01, 0x06, 0x07, 0x08, 0x09, 0x0c, 0x0d, 0x0e, 0x0f, 0x12, 0x13, 0x15, 0x16,
               0x30, 0x31, 0x32, 0x33, 0x34)


# --- losses --------------------------------------------------------------------------------------

def lossy(loss: int, swapped: int) -> Callable[[Stage], Outcome]:
    """Let datagrams of all processes be lost and swapped for a while, of a hundred so many."""
    def inject(stage: Stage) -> Outcome:
        at = stage.disturb()
        stage.network.set(loss, swapped)
        try:
            goes_on(stage, at, round(LOSSY_S * RATE_HZ))
        finally:
            stage.network.set(0, 0)
        return Outcome(stage.verdict(at))
    return inject


FAULTS = (
    Fault('A16', 'another node of the same name', 'named, goes on', namesake),
    Fault('E4', 'another type on the topics', 'named, goes on', other_type),
    Fault('E9', f'{DATAGRAMS} malformed datagrams', 'all alive, goes on', garbage),
    *(Fault('E8', name, 'goes on', lossy(loss, swapped), 'lossy_network')
      for name, loss, swapped in (
          ('1 % of datagrams lost', 1, 0), ('10 % of datagrams lost', 10, 0),
          ('30 % of datagrams lost', 30, 0), ('30 % of datagrams swapped', 0, 30))
      if COMPILER),
)
