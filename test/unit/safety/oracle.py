# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What must be true of whatever the safety core lets through, computed in another way.

Nothing of ``rl_nodes.safety`` is used: whole batches at once instead of one command, inequalities
as the documentation states them instead of the bounds that follow from them, products of 4x4
matrices instead of plain floats, and distances between the real boxes and cylinders instead of
the capsules around them. Legend: N commands, A commanded joints, J measured joints.
"""

import xml.etree.ElementTree as ElementTree

import numpy as np

EPS = 1e-6


class Oracle:
    """
    The stated limits of one robot.

    :param robot: only its configuration, joints and URDF are used.
    """

    def __init__(self, robot) -> None:
        self.robot, self.config = robot, robot.config
        self.safety = robot.config.safety
        joints = [joint for joint in robot.joints if joint.commanded]
        settings = [joint for joint in robot.config.joints if joint.commanded]
        self.index = [robot.joint_names.index(joint.name) for joint in joints]
        big = np.inf
        self.low = np.array([-big if j.lower is None else j.lower for j in joints])
        self.high = np.array([big if j.upper is None else j.upper for j in joints])
        self.speed = np.array([j.velocity for j in joints])
        self.effort = np.array([j.effort for j in joints])
        self.acceleration = np.array([s.acceleration or big for s in settings])
        self.jerk = np.array([s.jerk or big for s in settings])
        self.period = 1.0 / robot.config.rate_hz
        self.mode = robot.config.control_mode

    def violations(self, q, dq, command, allowed, narrowing=(1.0, 0.0)) -> dict[str, int]:
        """
        Count violations by name among allowed commands.

        :param q: measured positions, (N, J).
        :param dq: measured velocities, (N, J).
        :param command: asked for, (N, A).
        :param allowed: (N, A); rows of NaN where the command was refused.
        :param narrowing: (share of the speed limits, extra margin).
        """
        passed = ~np.isnan(allowed).all(axis=1)
        q, dq, command, allowed = q[passed], dq[passed], command[passed], allowed[passed]
        here, speed = q[:, self.index], dq[:, self.index]
        found = {'not finite': ~np.isfinite(allowed),
                 'not finite, not refused': ~np.isfinite(command),
                 'state not finite, not refused': ~np.isfinite(q),
                 'too fast, not refused': np.abs(speed) > (
                     self.speed * self.safety.overspeed * (1 + EPS))}
        base = here if self.mode == 'position' else np.zeros_like(here)
        asked, given = command - base, allowed - base
        scale = EPS + EPS * np.abs(asked)
        found['more than asked for'] = (np.abs(given) > np.abs(asked) + scale)
        found['other direction'] = (given * np.sign(asked) < -EPS)
        margin = self.safety.position_margin + narrowing[1]
        low, high = self.low + margin, self.high - margin
        if self.mode == 'effort':
            found['effort'] = np.abs(allowed) > self.effort * (1 + EPS)
            found['pushes out'] = ((here > high) & (allowed > 0)) | ((here < low) & (allowed < 0))
        else:
            asked_speed = given / (self.period if self.mode == 'position' else 1.0)
            rounding = 2 * np.spacing(np.abs(here)) / self.period  # of a target that far away
            found['speed'] = np.abs(asked_speed) > (
                self.speed * narrowing[0] * (1 + EPS) + EPS + rounding)
            there = here + asked_speed * self.period
            if self.mode == 'position':
                found['position'] = ((there > np.maximum(high, here) + EPS)
                                     | (there < np.minimum(low, here) - EPS))
            else:
                found['pushes out'] = (((here >= high) & (allowed > EPS))
                                       | ((here <= low) & (allowed < -EPS)))
            for sign, room in ((1, high - here), (-1, here - low)):
                towards = np.maximum(sign * asked_speed, 0.0)
                needed = towards * self.period + towards ** 2 / (2 * self.acceleration)
                limited = np.isfinite(self.acceleration)
                found[f'braking distance {sign}'] = limited & (towards > EPS) & (
                    needed > np.maximum(room, 0.0) + EPS)
                late = (sign * speed > 0) & (speed ** 2 > 2 * self.acceleration * (
                    np.maximum(room, 0.0) + EPS))
                found[f'too late to brake {sign}'] = limited & late & (towards > EPS)
        for coupling in self.safety.coupling:
            weights = np.array([coupling.weights.get(name, 0.0)
                                for name in self.robot.command_names])
            before, after = here @ weights, there @ weights
            least = -np.inf if coupling.lower is None else coupling.lower
            most = np.inf if coupling.upper is None else coupling.upper
            found[f'coupling {coupling.name}'] = (
                (after > np.maximum(most, before) + EPS)
                | (after < np.minimum(least, before) - EPS))
        return {name: int(bad.sum()) for name, bad in found.items() if bad.any()}

    def jumps(self, executed) -> dict[str, int]:
        """
        Count violations of acceleration and jerk in commands that followed each other.

        :param executed: speeds asked for, one control period apart, from rest, (N, A).
        """
        v = np.concatenate([np.zeros((2, executed.shape[1])), executed])
        rise = np.diff(np.abs(v), axis=0)
        turned = v[1:] * v[:-1] < 0  # then it begins from standing
        gain = np.where(turned, np.abs(v[1:]), rise)[1:]
        before = np.where(v[1:-1] * v[2:] > 0, np.maximum(rise[:-1], 0.0), 0.0)
        before = np.where(turned[:-1], np.where(v[1:-1] * v[2:] > 0,
                                                np.abs(np.diff(v, axis=0))[:-1], 0.0), before)
        found = {'acceleration': gain > self.acceleration * self.period + EPS,
                 'jerk': gain > before + self.jerk * self.period ** 2 + EPS}
        return {name: int(bad.sum()) for name, bad in found.items() if bad.any()}


# --- geometry ------------------------------------------------------------------------------------

def link_poses(robot, q) -> dict[str, np.ndarray]:
    """Return the pose of each link in base_link for each of N positions, (N, 4, 4)."""
    count = len(q)
    poses = {robot.config.base_link: np.tile(np.eye(4), (count, 1, 1))}
    left = list(robot.urdf.joints.values())
    while left:
        for joint in [joint for joint in left if joint.parent in poses]:
            fixed = np.eye(4)
            fixed[:3, :3], fixed[:3, 3] = joint.rotation, joint.offset
            move = np.tile(np.eye(4), (count, 1, 1))
            if joint.kind == 'prismatic':
                move[:, :3, 3] = q[:, robot.joint_names.index(joint.name), None] * joint.axis
            elif joint.kind != 'fixed':
                angle = q[:, robot.joint_names.index(joint.name)]
                x, y, z = joint.axis
                outer = np.outer(joint.axis, joint.axis)
                cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
                cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
                move[:, :3, :3] = cos * np.eye(3) + (1 - cos) * outer + sin * cross
            poses[joint.child] = poses[joint.parent] @ fixed @ move
            left.remove(joint)
        if not any(joint.parent in poses for joint in left):
            break
    return poses


def surface_points(robot, link, spacing=0.006) -> np.ndarray:
    """Return points on the boxes and cylinders that a link collides with, in its frame (P, 3)."""
    root = ElementTree.fromstring(robot.urdf.text)
    element = next(e for e in root.findall('link') if e.get('name') == link)
    clouds = [np.zeros((0, 3))]
    for collision in element.findall('collision'):
        origin = collision.find('origin')
        xyz = np.array([float(v) for v in (origin.get('xyz') or '0 0 0').split()])
        body = next(iter(collision.find('geometry')))
        if body.tag == 'box':
            size = np.array([float(v) for v in body.get('size').split()])
            axes = [np.linspace(-s / 2, s / 2, max(2, int(s / spacing))) for s in size]
            grid = np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 3)
            grid = grid[(np.abs(np.abs(grid) - size / 2) < 1e-12).any(axis=1)]
        elif body.tag == 'cylinder':
            radius, length = float(body.get('radius')), float(body.get('length'))
            angle = np.linspace(0, 2 * np.pi, max(8, int(2 * np.pi * radius / spacing)))
            rings = [(radius, z) for z in np.linspace(-length / 2, length / 2,
                                                      max(2, int(length / spacing)))]
            rings += [(r, z) for r in np.linspace(0, radius, 5) for z in (-length / 2, length / 2)]
            grid = np.concatenate([np.stack([r * np.cos(angle), r * np.sin(angle),
                                             np.full(len(angle), z)], axis=1) for r, z in rings])
        clouds.append(grid + xyz)
    return np.concatenate(clouds)


def moved(pose, points) -> np.ndarray:
    """Return points (P, 3) of a link by its poses (N, 4, 4): (N, P, 3)."""
    return np.einsum('nij,pj->npi', pose[:, :3, :3], points) + pose[:, None, :3, 3]


def nearest(a, b) -> np.ndarray:
    """Return the least distance of each pair of clouds (N, P, 3), (N, Q, 3): (N,)."""
    squares = ((a ** 2).sum(-1)[:, :, None] + (b ** 2).sum(-1)[:, None, :]
               - 2 * np.einsum('npi,nqi->npq', a, b))
    return np.sqrt(np.maximum(squares.min(axis=(1, 2)), 0.0))
