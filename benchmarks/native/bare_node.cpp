// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// The floor of the latency benchmark: a node as one writes it with rcl alone. A wait set, typed
// messages, the same observation, ONNX Runtime's C API, a command; no check of anything.
//
//   bare_node LIBONNXRUNTIME MODEL JOINTS SIZE
//
// The observation is (positions, velocities, goal), the command position + SIZE · action.

#include <rosidl_runtime_c/primitives_sequence_functions.h>
#include <rosidl_runtime_c/string_functions.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "../../rl_nodes/realtime/src/policy.hpp"
#include "ros.hpp"

extern "C" int program(int argc, char ** argv)
{
  if (argc != 5) {
    std::fprintf(stderr, "usage: bare_node LIBONNXRUNTIME MODEL JOINTS SIZE\n");
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string model{std::istreambuf_iterator<char>(file), {}};
  const int joints = std::atoi(argv[3]);
  const double size = std::atof(argv[4]);
  rl_nodes::Policy policy(argv[1], model, 2 * joints + 3, joints, "bare@1", 1, {});
  Ros ros("bare_node");
  rcl_subscription_t states = ros.subscription("joint_states", 10);
  rcl_publisher_t commands = ros.publisher("policy/joint_command", 10);

  sensor_msgs__msg__JointState state, command;
  sensor_msgs__msg__JointState__init(&state);
  sensor_msgs__msg__JointState__init(&command);
  rosidl_runtime_c__String__assign(&command.header.frame_id, "bare@1");
  rosidl_runtime_c__String__Sequence__init(&command.name, joints);
  rosidl_runtime_c__double__Sequence__init(&command.position, joints);
  for (int i = 0; i < joints; ++i) {
    rosidl_runtime_c__String__assign(
      &command.name.data[i], ("joint_" + std::to_string(i + 1)).c_str());
  }

  rcl_wait_set_t set = rcl_get_zero_initialized_wait_set();
  check(
    rcl_wait_set_init(&set, 1, 0, 0, 0, 0, 0, &ros.context, rcl_get_default_allocator()), "set");
  while (true) {
    check(rcl_wait_set_clear(&set), "clear");
    check(rcl_wait_set_add_subscription(&set, &states, nullptr), "add");
    if (rcl_wait(&set, kSecond) != RCL_RET_OK) {
      rcl_reset_error();
      continue;
    }
    while (rcl_take(&states, &state, nullptr, nullptr) == RCL_RET_OK) {
      for (int i = 0; i < joints; ++i) {
        policy.observation[i] = static_cast<float>(state.position.data[i]);
        policy.observation[joints + i] = static_cast<float>(state.velocity.data[i]);
      }
      const float goal[] = {0.3F, 0.1F, 0.3F};
      std::copy_n(goal, 3, policy.observation.begin() + 2 * joints);
      policy.run();
      command.header.stamp = state.header.stamp;
      for (int i = 0; i < joints; ++i) {
        command.position.data[i] = state.position.data[i] + size * policy.action[i];
      }
      check(rcl_publish(&commands, &command, nullptr), "command");
    }
    rcl_reset_error();
  }
}
