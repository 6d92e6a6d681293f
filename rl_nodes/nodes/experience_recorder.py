# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Experience recorder: keeps episodes as MCAP files and sends transitions to the trainer.

Messages are taken serialized and go to the disk as they came. Transitions are joined by stamp
(``transition_feed.py``), files are kept by ``data/episode_log.py``; neither ever blocks the graph.

Parameters: robot, task, stepping, autostart, directory, record_every, publish_experience,
batch_size, discount, seed, cameras, camera_drivers, record_images, jpeg_quality, shadow, sources,
operator, keep, most_episodes, topics, keep_last_s (see below).
Subscribes (all RECORDED, serialized):
  joint_states, joint_command, reward (sensor_msgs/JointState); policy/joint_command and
  teleop/joint_command (sensor_msgs/JointState), each where it is among the sources, the latter
  with teleop/intended_command (sensor_msgs/JointState);
  goal (geometry_msgs/PoseStamped, EPISODE);
  randomisation (sensor_msgs/JointState, EPISODE), where the task varies its episodes;
  odom (nav_msgs/Odometry), objects (geometry_msgs/PoseArray), scan (sensor_msgs/LaserScan),
  imu (sensor_msgs/Imu), wrench (geometry_msgs/WrenchStamped), where robot and task have them;
  policy/shadow_command (sensor_msgs/JointState), where a policy runs in the shadow;
  safety/decision (sensor_msgs/JointState), which is counted by check, too;
  recorder/annotation (std_msgs/String): what a person remarks, kept with the present episode;
  privileged (sensor_msgs/JointState), where the task lists privileged signals;
  safety/state, robot/status (diagnostic_msgs/DiagnosticArray, LATCHED); the latter not
  serialized, it names the episodes that do not count;
  camera/<name>/camera_info (sensor_msgs/CameraInfo, PICTURE) where cameras are watched, and the
  pictures (sensor_msgs/Image, PICTURE) where they are kept, as they came or, those in colour, as
  JPEG that a thread of its own makes of them (``data/compression.py``); those of physical cameras
  (sensor_msgs/Image or CompressedImage, as offered) on the topics that the robot's YAML names;
  whatever ``topics`` names, as its publishers offer it, in a thread of its own
  (``topic_listener.py``).
Publishes:
  experience (std_msgs/Float32MultiArray, BATCH): labelled columns, one row per transition;
  recorder/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Services (std_srvs/Trigger), each about the newest demonstration:
  ~/save_episode: keep it, whatever came of it; ~/discard_episode: do not keep it;
  ~/mark_success, ~/mark_failure: it was one, whatever the reward says;
and ~/save_event: write the last ``keep_last_s`` seconds to a file, as every stop does.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
import time
from typing import Annotated, Any

from diagnostic_msgs.msg import DiagnosticArray
from msgspec import Meta
from rclpy.qos import QoSProfile
from rl_nodes.core.cameras import CameraSensorConfig, COMPRESSED, COMPRESSED_IMAGE, IMAGE
from rl_nodes.core.errors import ConfigError, RecordingError, SpecError
from rl_nodes.core.timing import NS
from rl_nodes.data.cdr import read_text
from rl_nodes.data.compression import PictureCompressor
from rl_nodes.data.episode_file import EpisodeStart
from rl_nodes.data.episode_log import EpisodeLog, Keep, LINGER_STATES, Mark
from rl_nodes.data.inspection import ANNOTATION, ANNOTATION_TYPE
from rl_nodes.data.recovery import recover
from rl_nodes.data.ring import EVENTS_FOLDER
from rl_nodes.data.rosbag2 import index_folder
from rl_nodes.data.topic_choice import TopicChoice
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.camera_listener import CameraListener, Numbers, PICTURE_S
from rl_nodes.nodes.joint_state import deserialize
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import OK, TaskNode, WARN
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.nodes.safety_events import DECISION, msg_to_decision
from rl_nodes.nodes.state_topics import JOINTS
from rl_nodes.nodes.transition_feed import EXECUTED, GOAL, REWARD, TransitionFeed, WANTED
from rl_nodes.nodes.wider_recording import own_qos, WiderRecording
from rl_nodes.safety.sources import Sources
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32MultiArray, String
from std_srvs.srv import Trigger

ENCODE_S = 0.3  # what is compressed comes so much later than other pictures
CLOSE_S = 1.0  # what is being compressed at the end is waited for so long
SEND_S = 0.1  # transitions wait at most this long for their batch to fill
JOINT_STATE = 'sensor_msgs/msg/JointState'
SAFETY_STATE = 'diagnostic_msgs/msg/DiagnosticArray'
SHADOW = 'policy/shadow_command'


class RecorderParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the experience recorder.

    :param directory: where episodes are kept; empty to keep none
    :param record_every: keep every n-th episode
    :param publish_experience: send transitions to the trainer
    :param batch_size: transitions per message
    :param discount: per step, of the discounted return in an episode's metadata
    :param seed: of the run, kept with each episode
    :param cameras: watch the cameras of the robot, mark the episodes in which one has stalled
    :param camera_drivers: these are physical ones, whose drivers publish on the topics that the
        robot's YAML names
    :param record_images: keep the pictures of these cameras with the episodes
    :param jpeg_quality: keep those in colour as JPEG of this quality; 0 for as they came
    :param shadow: keep what a policy in the shadow would do with the episodes
    :param sources: whose wishes are heard: policy, teleop or policy+teleop
    :param operator: who demonstrates, kept with each episode
    :param keep: which episodes: all; demonstrated, those in which a person or script had control;
        or successes, the successful ones among these
    :param most_episodes: keep no more than this; 0 for all
    :param topics: further topics to keep with the episodes, beside those that the robot's and the
        task's YAML list as record_topics: names and regular expressions separated by spaces, or
        all
    :param keep_last_s: write the last seconds of everything heard to the folder events at every
        stop of the safety monitor and when asked to, 0 for never; at most 256 MB
    """

    directory: str = ''
    record_every: Annotated[int, Meta(ge=1)] = 1
    publish_experience: bool = False
    batch_size: Annotated[int, Meta(ge=1, le=10000)] = 32
    discount: Annotated[float, Meta(gt=0, le=1)] = 0.99
    seed: int = 0
    cameras: bool = False
    camera_drivers: bool = False
    record_images: bool = False
    jpeg_quality: Annotated[int, Meta(ge=0, le=95)] = 0
    shadow: bool = False
    sources: Sources = 'policy'
    operator: str = ''
    keep: Keep = 'all'
    most_episodes: Annotated[int, Meta(ge=0)] = 0
    topics: str = ''
    keep_last_s: Annotated[float, Meta(ge=0, le=600)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.directory and (self.topics or self.keep_last_s):
            raise ValueError(f'topics = {self.topics!r}, keep_last_s = {self.keep_last_s}: '
                             'nothing is recorded, as directory is empty')


class ExperienceRecorder(TaskNode[RecorderParameters]):
    """See the module's text."""

    parameters_type = RecorderParameters
    status_topic = 'recorder/status'
    drains = True

    def configure(self) -> None:
        """Recover what a killed recorder left, then build the entities."""
        super().configure()
        parameters, contract = self.parameters, self.task.contract
        directory = Path(parameters.directory)
        if parameters.directory:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f'directory {directory}: {error}') from None
            for found in (*recover(directory), *recover(directory / EVENTS_FOLDER)):
                self.get_logger().warning(f'{found.original.name}: {found.note}')
        self._feed = TransitionFeed(self.task, privileged=parameters.publish_experience,
                                    sources=parameters.sources)
        self._assembler = self._feed.assembler
        topics = {**self._feed.type_names(), 'safety/state': SAFETY_STATE, DECISION: JOINT_STATE,
                  ANNOTATION: ANNOTATION_TYPE}
        if self.task.variation_names:
            topics['randomisation'] = JOINT_STATE
        if parameters.shadow:
            topics[SHADOW] = JOINT_STATE
        cameras = self.task.robot.config.cameras if parameters.cameras else ()
        linger = LINGER_STATES
        self._compressor: PictureCompressor | None = None
        self._replaced: frozenset[str] = frozenset()
        if parameters.record_images:
            linger += round(PICTURE_S * contract.rate_hz)
            topics |= self._pictures(cameras)
            if self._compressor is not None:
                linger += round(ENCODE_S * contract.rate_hz)
        self._log: EpisodeLog | None = None
        self._wider: WiderRecording | None = None
        if parameters.directory:
            self._record(directory, topics, linger)
        self._told = (0, 0, 0)
        self._sent, self._refused = 0, 0
        self._unheard = {JOINTS, GOAL, self._feed.wanted[0], EXECUTED, REWARD}
        self._batches = self.publish_on(Float32MultiArray, 'experience', qos.BATCH)
        for topic, kind in self._feed.kinds.items():
            self._take(kind, topic, partial(self._on_message, topic),
                       qos.EPISODE if topic == GOAL else qos.RECORDED)
        if self.task.variation_names:
            self._take(JointState, 'randomisation', self._on_variation, qos.EPISODE)
        if parameters.shadow:
            self._take(JointState, SHADOW, self._on_shadow, qos.RECORDED)
        self.subscribe(DiagnosticArray, 'robot/status', self._on_robot, qos.LATCHED)
        self._take(DiagnosticArray, 'safety/state', self._on_safety, qos.LATCHED)
        self._take(JointState, DECISION, self._on_decision, qos.RECORDED)
        self.subscribe(String, ANNOTATION, self._on_annotation, qos.RECORDED, raw=True)
        self._cameras = CameraListener(
            self, cameras, self._keep_picture if parameters.record_images else None,
            self._numbers, parameters.camera_drivers)
        marks: tuple[tuple[str, Mark], ...] = (
            ('save_episode', 'save'), ('discard_episode', 'discard'),
            ('mark_success', 'success'), ('mark_failure', 'failure'))
        for name, what in marks:
            self.serve(Trigger, name, partial(self._on_mark, what))
        self.every(SEND_S, self.tick)

    def _pictures(self, cameras: tuple[CameraSensorConfig, ...]) -> dict[str, str]:
        """Return the type name by topic of the pictures that are kept; make what compresses."""
        parameters = self.parameters
        sources = [camera.sources(parameters.camera_drivers) for camera in cameras]
        found = {source.recorded: source.type_name for own in sources for source in own}
        inside = self.get_namespace().rstrip('/') + '/'
        self._replaced = frozenset(self.resolve_topic_name(source.topic).removeprefix(inside)
                                   for own in sources for source in own)
        if parameters.jpeg_quality:
            self._compressor = PictureCompressor(
                (own[0].recorded for own in sources if own[0].type_name == IMAGE),
                parameters.jpeg_quality)
            for topic in self._compressor.topics:
                del found[topic]
                found[topic + COMPRESSED] = COMPRESSED_IMAGE
        return found

    def _record(self, directory: Path, topics: dict[str, str], linger: int) -> None:
        """Begin to keep episodes, and whatever else is to be kept."""
        parameters, task = self.parameters, self.task
        contract = task.contract
        notes = {'stepping': parameters.stepping,
                 'real_time_factor': str(parameters.real_time_factor),
                 **({'operator': parameters.operator} if parameters.operator else {}),
                 **({} if task.target_return is None else {
                     'target_return': repr(task.target_return)})}
        profiles = {GOAL: qos.EPISODE, 'randomisation': qos.EPISODE, EXECUTED: qos.EXECUTED,
                    'safety/state': qos.LATCHED}
        self._log = EpisodeLog(
            directory, contract, topics, every=parameters.record_every, seed=parameters.seed,
            notes=notes, discount=parameters.discount, clock=time.time_ns, linger=linger,
            keep=parameters.keep, most=parameters.most_episodes,
            qos=own_qos(topics, profiles, qos.STREAM))
        chosen = ' '.join((*task.record_topics, parameters.topics))
        self._wider = WiderRecording(
            self, self._log, topics, self._replaced, TopicChoice(chosen), directory,
            EpisodeStart(contract, 'event', parameters.seed, notes=notes), parameters.keep_last_s,
            0.0 if self.lockstep else NS / task.period_ns)
        self._index()

    def _index(self) -> None:
        """Make bags of the folders with recordings, for ros2 bag."""
        directory = Path(self.parameters.directory)
        for folder in (directory, directory / EVENTS_FOLDER):
            try:
                index_folder(folder)
            except RecordingError as error:
                self.get_logger().error(str(error))

    def deactivate(self) -> None:
        """Send what is left."""
        self._assembler.flush()
        self._send()

    def release(self) -> None:
        """Complete the files."""
        cameras, self._cameras = getattr(self, '_cameras', None), None
        if cameras is not None:
            cameras.close()
        compressor, self._compressor = getattr(self, '_compressor', None), None
        if compressor is not None:
            compressor.close(CLOSE_S)
            self._keep_compressed(compressor)
        wider, self._wider = getattr(self, '_wider', None), None
        log, self._log = getattr(self, '_log', None), None
        if wider is not None:
            wider.close()
        if log is not None:
            log.close(timeout_s=2.0)
            self._index()

    def _take(self, kind: type, topic: str, callback: Callable[[bytes], None],
              profile: QoSProfile) -> None:
        """Subscribe to what is recorded as it came."""
        self.subscribe(kind, topic, callback, profile, raw=True, numbers=self._numbers(topic))

    def _numbers(self, topic: str) -> Numbers | None:
        return None if self._wider is None else self._wider.numbers(topic)

    def _on_message(self, topic: str, data: bytes) -> None:
        """Keep a message with its episode, and have it joined to transitions."""
        try:
            heard = self._feed.add(topic, data)
        except SpecError as error:
            self._refuse(error)
            return
        log, stamp = self._log, heard.stamp_ns
        if topic == JOINTS:
            if self._compressor is not None:
                self._keep_compressed(self._compressor)
            stalled = self._cameras.state()
            if log is not None:
                self._wider.heard(topic, data)
                if log.add_state(topic, stamp, heard.frame_id, data):
                    self.get_logger().error('the clock was set back; this episode is void')
                    self._assembler.reset()
                log.note_stalled(stalled)
        else:
            self._keep(topic, stamp, data)
        if log is not None and topic == WANTED:
            log.note_policy(stamp, heard.frame_id)
        elif log is not None and topic == EXECUTED:
            log.note_executed(stamp, heard.value.source)
        elif log is not None and topic == REWARD:
            log.note_reward(heard.frame_id, stamp, heard.value)
        if heard.value is None:  # a part of a state is on its way
            return
        is_state = topic in self._feed.state_topics
        self._hear(JOINTS if is_state else topic)
        if is_state and self._assembler.ready >= self.parameters.batch_size:
            self._send()

    def _on_variation(self, data: bytes) -> None:
        try:
            stamp, episode, values = conversions.msg_to_variation(
                deserialize(data, JointState))
        except SpecError as error:
            self._refuse(error)
            return
        self._keep('randomisation', stamp, data)
        if self._log is not None:
            self._log.note_variation(episode, values)

    def _on_shadow(self, data: bytes) -> None:
        try:
            stamp = conversions.stamp_to_ns(deserialize(data, JointState).header.stamp)
        except SpecError as error:
            self._refuse(error)
            return
        self._keep(SHADOW, stamp, data)

    def _on_robot(self, msg: DiagnosticArray) -> None:
        void = conversions.void_of_status(msg)
        if void is not None and self._log is not None:
            self._log.note_void(*void)

    def _on_safety(self, data: bytes) -> None:
        if self._log is not None:
            self._log.add_now('safety/state', data)
            self._wider.heard('safety/state', data)
            self._wider.safety(data)

    def _on_decision(self, data: bytes) -> None:
        try:
            decision = msg_to_decision(data)
        except SpecError as error:
            self._refuse(error)
            return
        self._keep(DECISION, decision.stamp_ns, data)
        if self._log is not None:
            self._log.note_decision(decision.stamp_ns, decision.name)

    def _on_annotation(self, data: bytes) -> None:
        try:
            text = read_text(data)
        except SpecError as error:
            self._refuse(error)
            return
        episode = ''
        if self._log is not None and text:
            self._wider.heard(ANNOTATION, data)
            episode = self._log.add_now(ANNOTATION, data)
        if episode:
            self.get_logger().info(f'episode {episode}: {text}')
        else:
            self.get_logger().warning(f'{text!r} is lost: no episode is being recorded')

    def _on_mark(self, what: Mark, _request: Trigger.Request) -> tuple[bool, str]:
        if self._log is None:
            return False, 'nothing is recorded: the parameter directory is empty'
        done, message = self._log.mark(what)
        self.get_logger().info(message)
        return done, message

    def tick(self) -> None:
        """Send what has waited; publish at once when an episode was kept or discarded."""
        self._send()
        self._cameras.fetch()
        log = self._log
        if log is not None and (log.files, log.kept, log.discarded) != self._told:
            self._told = (log.files, log.kept, log.discarded)
            self.publish_health()

    def _hear(self, topic: str) -> None:
        """Take note that a topic's publisher is connected; tell as soon as all of them are."""
        if topic in self._unheard:
            self._unheard.remove(topic)
            if not self._unheard:
                self.publish_health()

    def _keep(self, topic: str, stamp_ns: int, data: bytes) -> None:
        if self._log is not None:
            self._wider.heard(topic, data)
            self._log.add(topic, stamp_ns, data)

    def _keep_picture(self, topic: str, stamp_ns: int, data: bytes) -> None:
        log, compressor = self._log, self._compressor
        if compressor is None or topic not in compressor.topics:
            self._keep(topic, stamp_ns, data)
        elif log is not None and (self.parameters.keep_last_s or log.wants(stamp_ns)) \
                and not compressor.put(topic, stamp_ns, data):
            log.note_fault(f'{topic}: pictures dropped, compression is too slow', void=False)

    def _keep_compressed(self, compressor: PictureCompressor) -> None:
        for picture in compressor.take():
            self._keep(*picture)

    def _send(self) -> None:
        """Publish the finished transitions; without a trainer they are counted and let go."""
        if not self._assembler.ready:
            return
        batch = self._assembler.take()
        self._sent += len(batch)
        if self.parameters.publish_experience:
            self._batches.publish(conversions.batch_to_msg(batch))

    def _refuse(self, error: SpecError) -> None:
        self._refused += 1
        self.get_logger().warning(f'dropped: {error}', throttle_duration_sec=1.0)

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return transitions, files and everything that was lost, by reason."""
        values = {'transitions': self._sent, 'refused': self._refused,
                  'hears_all': not self._unheard,
                  **asdict(self._assembler.counters)}
        if self._compressor is not None:
            values |= self._compressor.values()
        if self.parameters.camera_drivers:
            values['pictures_lost'] = self._cameras.lost
        complaint = self._cameras.complaint
        if self._log is not None:
            values |= {'files': self._log.files, 'kept': self._log.kept,
                       'discarded': self._log.discarded,
                       'newest_episode': self._log.newest, 'messages_dropped': self._log.dropped,
                       'messages_misplaced': self._log.misplaced}
            values |= self._wider.values()
            complaint = '; '.join(filter(None, (complaint, self._wider.complaint)))
            if self._log.error:
                complaint = f'recording failed, control goes on: {self._log.error}'
        return (WARN, complaint, values) if complaint else (OK, 'running', values)


def main() -> None:
    """Run the node."""
    run_main(ExperienceRecorder, 'experience_recorder')


if __name__ == '__main__':
    main()
