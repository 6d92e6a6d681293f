// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// The little of rcl that the programs of the latency benchmark need; every error ends them.

#pragma once

#include <rcl/error_handling.h>
#include <rcl/rcl.h>
#include <rmw/qos_profiles.h>
#include <sensor_msgs/msg/joint_state.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

constexpr int64_t kSecond = 1000000000;

inline void check(rcl_ret_t code, const char * what)
{
  if (code != RCL_RET_OK) {
    std::fprintf(stderr, "%s: %s\n", what, rcl_get_error_string().str);
    std::exit(1);
  }
}

inline int64_t now_ns(clockid_t clock)
{
  timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

// Reliable, keep last: as the nodes of rl_nodes have it.
inline rmw_qos_profile_t profile(size_t depth)
{
  rmw_qos_profile_t qos = rmw_qos_profile_default;
  qos.depth = depth;
  return qos;
}

struct Ros
{
  rcl_context_t context = rcl_get_zero_initialized_context();
  rcl_node_t node = rcl_get_zero_initialized_node();

  explicit Ros(const char * name)
  {
    rcl_init_options_t init = rcl_get_zero_initialized_init_options();
    check(rcl_init_options_init(&init, rcl_get_default_allocator()), "init options");
    check(rcl_init(0, nullptr, &init, &context), "init");
    const rcl_node_options_t options = rcl_node_get_default_options();
    check(rcl_node_init(&node, name, "", &context, &options), "node");
  }

  rcl_publisher_t publisher(
    const char * topic, size_t depth, bool latched = false,
    const rosidl_message_type_support_t * type =
    ROSIDL_GET_MSG_TYPE_SUPPORT(sensor_msgs, msg, JointState))
  {
    rcl_publisher_t made = rcl_get_zero_initialized_publisher();
    rcl_publisher_options_t options = rcl_publisher_get_default_options();
    options.qos = profile(depth);
    if (latched) {
      options.qos.durability = RMW_QOS_POLICY_DURABILITY_TRANSIENT_LOCAL;
    }
    check(rcl_publisher_init(&made, &node, type, topic, &options), topic);
    return made;
  }

  rcl_subscription_t subscription(const char * topic, size_t depth)
  {
    rcl_subscription_t made = rcl_get_zero_initialized_subscription();
    rcl_subscription_options_t options = rcl_subscription_get_default_options();
    options.qos = profile(depth);
    check(
      rcl_subscription_init(
        &made, &node, ROSIDL_GET_MSG_TYPE_SUPPORT(sensor_msgs, msg, JointState), topic,
        &options), topic);
    return made;
  }
};
