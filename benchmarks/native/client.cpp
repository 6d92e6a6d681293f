// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// Robots that publish states at absolute deadlines and time the commands that come back:
//
//   client RATE_HZ COUNT JOINTS FILE TOPIC_PREFIX...
//
// FILE gets pairs of int64: for each state of each robot its latency [ns], -1 for none, and how
// late the publisher woke up for it [ns].

#include <geometry_msgs/msg/pose_stamped.h>
#include <rcutils/types/uint8_array.h>
#include <semaphore.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../../rl_nodes/realtime/src/cdr.hpp"
#include "ros.hpp"

using rl_nodes::CdrWriter;

namespace
{

sem_t arrived;

void on_message(const void *, size_t) {sem_post(&arrived);}

rcl_serialized_message_t view(std::vector<uint8_t> & bytes)
{
  rcl_serialized_message_t message = rcutils_get_zero_initialized_uint8_array();
  message.buffer = bytes.data();
  message.buffer_length = message.buffer_capacity = bytes.size();
  return message;
}

void write_stamp(std::vector<uint8_t> & bytes, int64_t stamp)
{
  const auto seconds = static_cast<int32_t>(stamp / kSecond);
  const auto rest = static_cast<uint32_t>(stamp % kSecond);
  std::memcpy(bytes.data() + rl_nodes::kEncapsulation, &seconds, 4);
  std::memcpy(bytes.data() + rl_nodes::kEncapsulation + 4, &rest, 4);
}

int64_t read_stamp(const uint8_t * bytes)
{
  int32_t seconds;
  uint32_t rest;
  std::memcpy(&seconds, bytes + rl_nodes::kEncapsulation, 4);
  std::memcpy(&rest, bytes + rl_nodes::kEncapsulation + 4, 4);
  return seconds * kSecond + rest;
}

std::vector<uint8_t> state_message(int joints, const std::string & episode)
{
  CdrWriter writer;
  writer.value(int32_t{0});
  writer.value(uint32_t{0});
  writer.string(episode);
  writer.value(static_cast<uint32_t>(joints));
  for (int i = 1; i <= joints; ++i) {
    writer.string("joint_" + std::to_string(i));
  }
  for (int field = 0; field < 3; ++field) {
    const size_t at = writer.doubles(joints);
    for (int i = 0; i < joints; ++i) {
      const double value = field == 0 ? 0.1 * std::sin(i) : 0.0;
      std::memcpy(writer.bytes.data() + at + 8 * i, &value, 8);
    }
  }
  return writer.bytes;
}

std::vector<uint8_t> goal_message(int64_t stamp)
{
  CdrWriter writer;
  writer.value(int32_t{0});
  writer.value(uint32_t{0});
  writer.string("base_link");
  for (double value : {0.3, 0.1, 0.3, 0.0, 0.0, 0.0, 1.0}) {
    writer.value(value);
  }
  write_stamp(writer.bytes, stamp);
  return writer.bytes;
}

struct Robot
{
  rcl_publisher_t states, goals;
  rcl_subscription_t commands;
};

}  // namespace

extern "C" int program(int argc, char ** argv)
{
  if (argc < 6) {
    std::fprintf(stderr, "usage: client RATE_HZ COUNT JOINTS FILE TOPIC_PREFIX...\n");
    return 2;
  }
  const int64_t period = kSecond / std::atoi(argv[1]);
  const int count = std::atoi(argv[2]), joints = std::atoi(argv[3]), robots = argc - 5;
  Ros ros("latency_client");
  sem_init(&arrived, 0, 0);
  std::vector<Robot> served;
  for (int i = 0; i < robots; ++i) {
    const std::string prefix = argv[5 + i];
    served.push_back(
      {ros.publisher((prefix + "joint_states").c_str(), 10),
        ros.publisher((prefix + "goal").c_str(), 10, true,
        ROSIDL_GET_MSG_TYPE_SUPPORT(geometry_msgs, msg, PoseStamped)),
        ros.subscription((prefix + "policy/joint_command").c_str(), 10)});
  }
  for (Robot & robot : served) {
    check(
      rcl_subscription_set_on_new_message_callback(&robot.commands, on_message, nullptr),
      "callback");
  }

  const int64_t start = now_ns(CLOCK_REALTIME);
  std::vector<uint8_t> state = state_message(joints, "1@" + std::to_string(start));
  std::vector<uint8_t> goal = goal_message(start);
  rcl_serialized_message_t out = view(state), goal_out = view(goal);
  for (Robot & robot : served) {
    check(rcl_publish_serialized_message(&robot.goals, &goal_out, nullptr), "goal");
  }

  // Of every state: when it went out (its stamp), and when its answer was here.
  std::vector<int64_t> sent(static_cast<size_t>(count) * robots, 0), late(sent.size(), 0);
  auto answered = std::make_unique<std::atomic<int64_t>[]>(sent.size());
  std::atomic<size_t> published{0}, heard{0};
  std::atomic<bool> ended{false};
  std::thread listener([&] {
      auto allocator = rcutils_get_default_allocator();
      rcl_serialized_message_t in = rcutils_get_zero_initialized_uint8_array();
      (void) rcutils_uint8_array_init(&in, 16384, &allocator);
      while (!ended) {
        while (sem_wait(&arrived) != 0) {
        }
        for (int r = 0; r < robots; ++r) {
          while (rcl_take_serialized_message(&served[r].commands, &in, nullptr, nullptr) ==
            RCL_RET_OK)
          {
            const int64_t now = now_ns(CLOCK_REALTIME), stamp = read_stamp(in.buffer);
            ++heard;
            for (size_t k = published.load(); k-- > 0; ) {  // nearly always one of the last
              if (sent[k] == stamp && static_cast<int>(k % robots) == r) {
                answered[k] = now;
                break;
              }
            }
          }
          rcl_reset_error();
        }
      }
    });

  // Everybody is there once each robot's state has been answered.
  for (Robot & robot : served) {
    const size_t before = heard;
    for (int tries = 0; heard == before; ++tries) {
      if (tries == 150) {
        std::fprintf(stderr, "client: no command within 30 s\n");
        std::_Exit(1);
      }
      write_stamp(state, now_ns(CLOCK_REALTIME));
      check(rcl_publish_serialized_message(&robot.states, &out, nullptr), "state");
      const timespec pause{0, 200000000};
      nanosleep(&pause, nullptr);
    }
  }

  int64_t due = now_ns(CLOCK_MONOTONIC);
  for (int i = 0; i < count; ++i) {
    due += period;
    const timespec at{due / kSecond, due % kSecond};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) != 0) {
    }
    const int64_t woken = now_ns(CLOCK_MONOTONIC) - due;
    for (int r = 0; r < robots; ++r) {
      const size_t k = static_cast<size_t>(i) * robots + r;
      sent[k] = now_ns(CLOCK_REALTIME);
      late[k] = woken;
      published = k + 1;
      write_stamp(state, sent[k]);
      check(rcl_publish_serialized_message(&served[r].states, &out, nullptr), "state");
    }
  }
  const timespec rest{0, 300000000};
  nanosleep(&rest, nullptr);
  ended = true;
  sem_post(&arrived);
  listener.join();

  FILE * file = std::fopen(argv[4], "wb");
  if (file == nullptr) {
    std::perror(argv[4]);
    return 1;
  }
  for (size_t k = 0; k < sent.size(); ++k) {
    const int64_t pair[2] = {answered[k] == 0 ? -1 : answered[k] - sent[k], late[k]};
    std::fwrite(pair, sizeof(pair), 1, file);
  }
  std::fclose(file);
  std::_Exit(0);  // nothing is left to be told to anybody
}
