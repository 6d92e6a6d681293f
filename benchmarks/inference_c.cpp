// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// The same model through ONNX Runtime's C API, without an interpreter: the peer of inference.py.

#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include "onnxruntime_c.hpp"

namespace
{

using namespace rl_nodes::ort;  // NOLINT

struct Peer
{
  Api api = nullptr;
  Handle session = nullptr;
  Handle binding = nullptr;
  std::vector<float> input;
  std::vector<std::vector<float>> outputs;
  std::vector<const char *> output_names;
  Handle input_value = nullptr;
  std::vector<Handle> output_values;
};

Peer peer;
char message[512];

int failed(const std::exception & error)
{
  std::snprintf(message, sizeof(message), "%s", error.what());
  return 1;
}

}  // namespace

extern "C" const char * peer_message() {return message;}

// Build a session on one CPU thread with everything preallocated. Returns 0 on success.
extern "C" int peer_open(
  const char * library, const void * model, uint64_t size, int64_t observations, int64_t actions,
  int outputs)
try {
  static const char * const names[] = {"action", "action_mean", "action_std"};
  const int fatal = 4, arena = 1, standard_memory = 0;
  const Api api = peer.api = load(library);
  Handle env = nullptr, memory = nullptr;
  peer.input.assign(observations, 0.0F);
  peer.outputs.assign(outputs, std::vector<float>(actions, 0.0F));
  peer.output_names.assign(names, names + outputs);
  check(api, call(api, kCreateEnv, fatal, "peer", &env));
  check(
    api, call(
      api, kCreateSessionFromArray, env, model, static_cast<size_t>(size),
      session_options(api, 1), &peer.session));
  check(api, call(api, kCreateCpuMemoryInfo, arena, standard_memory, &memory));
  peer.input_value = tensor(
    api, memory, peer.input.data(), {1, static_cast<int64_t>(peer.input.size())});
  check(api, call(api, kCreateIoBinding, peer.session, &peer.binding));
  check(api, call(api, kBindInput, peer.binding, "observation", peer.input_value));
  for (int i = 0; i < outputs; ++i) {
    std::vector<float> & output = peer.outputs[i];
    peer.output_values.push_back(
      tensor(api, memory, output.data(), {1, static_cast<int64_t>(output.size())}));
    check(api, call(api, kBindOutput, peer.binding, names[i], peer.output_values[i]));
  }
  return 0;
} catch (const std::exception & error) {
  return failed(error);
}

// Answer `count` observations (row-major), copy the actions out and note how long each took [ns].
extern "C" int peer_act(
  const float * observations, int64_t count, int bound, float * actions, int64_t * took_ns)
try {
  const size_t width = peer.input.size(), height = peer.outputs[0].size();
  const char * input_name = "observation";
  for (int64_t i = 0; i < count; ++i) {
    const auto start = std::chrono::steady_clock::now();
    std::memcpy(peer.input.data(), observations + i * width, width * sizeof(float));
    Handle status = bound ?
      call(peer.api, kRunWithBinding, peer.session, Handle{nullptr}, peer.binding) :
      call(
      peer.api, kRun, peer.session, Handle{nullptr}, &input_name, &peer.input_value, size_t{1},
      peer.output_names.data(), peer.output_names.size(), peer.output_values.data());
    std::memcpy(actions + i * height, peer.outputs[0].data(), height * sizeof(float));
    const auto end = std::chrono::steady_clock::now();
    check(peer.api, status);
    took_ns[i] = std::chrono::duration_cast<std::chrono::nanoseconds>(end - start).count();
  }
  return 0;
} catch (const std::exception & error) {
  return failed(error);
}
