// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// The same model through ONNX Runtime's C API, without an interpreter: the peer of inference.py.
//
// The wheel of ONNX Runtime carries the library without its header. The API is a table of function
// pointers that only grows at its end, so the few entries needed are named by their position.

#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace
{

constexpr uint32_t kApiVersion = 14;

enum Slot
{
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSessionFromArray = 8,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetSessionExecutionMode = 13,
  kSetGraphOptimizationLevel = 23,
  kSetIntraOpNumThreads = 24,
  kSetInterOpNumThreads = 25,
  kCreateTensorWithData = 49,
  kCreateCpuMemoryInfo = 69,
  kAddSessionConfigEntry = 130,
  kRunWithBinding = 133,
  kCreateIoBinding = 134,
  kBindInput = 136,
  kBindOutput = 137,
};

// Every object of the API is opaque; a null status means success.
using Handle = void *;
using Status = void *;

struct ApiBase
{
  void * const * (*get_api)(uint32_t version);
  const char * (*get_version_string)();
};

template<typename... Arguments>
Status call(void * const * api, Slot slot, Arguments... arguments)
{
  return reinterpret_cast<Status (*)(Arguments...)>(api[slot])(arguments...);
}

struct Peer
{
  void * const * api = nullptr;
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

bool failed(Status status)
{
  if (status == nullptr) {
    return false;
  }
  auto text = reinterpret_cast<const char * (*)(Status)>(peer.api[kGetErrorMessage]);
  std::snprintf(message, sizeof(message), "%s", text(status));
  return true;
}

}  // namespace

extern "C" const char * peer_message() {return message;}

// Build a session on one CPU thread with everything preallocated. Returns 0 on success.
extern "C" int peer_open(
  const char * library, const void * model, uint64_t size, int64_t observations, int64_t actions,
  int outputs)
{
  void * handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    std::snprintf(message, sizeof(message), "%s", dlerror());
    return 1;
  }
  auto base = reinterpret_cast<const ApiBase * (*)()>(dlsym(handle, "OrtGetApiBase"));
  peer.api = base == nullptr ? nullptr : base()->get_api(kApiVersion);
  if (peer.api == nullptr) {
    std::snprintf(message, sizeof(message), "no C API of version %u", kApiVersion);
    return 1;
  }
  Handle env = nullptr, options = nullptr, memory = nullptr;
  static const char * const names[] = {"action", "action_mean", "action_std"};
  peer.input.assign(observations, 0.0F);
  peer.outputs.assign(outputs, std::vector<float>(actions, 0.0F));
  peer.output_names.assign(names, names + outputs);
  peer.output_values.assign(outputs, nullptr);
  const int64_t input_shape[] = {1, observations};
  const int64_t output_shape[] = {1, actions};
  const int float32 = 1, fatal = 4, arena = 1, standard_memory = 0, sequential = 0, all = 99;
  auto api = peer.api;
  if (failed(call(api, kCreateEnv, fatal, "peer", &env)) ||
    failed(call(api, kCreateSessionOptions, &options)) ||
    failed(call(api, kSetSessionExecutionMode, options, sequential)) ||
    failed(call(api, kSetGraphOptimizationLevel, options, all)) ||
    failed(call(api, kSetIntraOpNumThreads, options, 1)) ||
    failed(call(api, kSetInterOpNumThreads, options, 1)) ||
    failed(call(api, kAddSessionConfigEntry, options, "session.intra_op.allow_spinning", "0")) ||
    failed(call(api, kAddSessionConfigEntry, options, "session.inter_op.allow_spinning", "0")) ||
    failed(call(
      api, kCreateSessionFromArray, env, model, static_cast<size_t>(size), options,
      &peer.session)) ||
    failed(call(api, kCreateCpuMemoryInfo, arena, standard_memory, &memory)) ||
    failed(call(
      api, kCreateTensorWithData, memory, static_cast<void *>(peer.input.data()),
      static_cast<size_t>(observations) * sizeof(float), &input_shape[0], size_t{2}, float32,
      &peer.input_value)) ||
    failed(call(api, kCreateIoBinding, peer.session, &peer.binding)) ||
    failed(call(api, kBindInput, peer.binding, "observation", peer.input_value)))
  {
    return 1;
  }
  for (int i = 0; i < outputs; ++i) {
    if (failed(call(
        api, kCreateTensorWithData, memory, static_cast<void *>(peer.outputs[i].data()),
        static_cast<size_t>(actions) * sizeof(float), &output_shape[0], size_t{2}, float32,
        &peer.output_values[i])) ||
      failed(call(api, kBindOutput, peer.binding, peer.output_names[i], peer.output_values[i])))
    {
      return 1;
    }
  }
  return 0;
}

// Answer `count` observations (row-major), copy the actions out and note how long each took [ns].
extern "C" int peer_act(
  const float * observations, int64_t count, int bound, float * actions, int64_t * took_ns)
{
  const size_t width = peer.input.size(), height = peer.outputs[0].size();
  const char * input_name = "observation";
  for (int64_t i = 0; i < count; ++i) {
    const auto start = std::chrono::steady_clock::now();
    std::memcpy(peer.input.data(), observations + i * width, width * sizeof(float));
    Status status = bound ?
      call(peer.api, kRunWithBinding, peer.session, Handle{nullptr}, peer.binding) :
      call(
      peer.api, kRun, peer.session, Handle{nullptr}, &input_name, &peer.input_value, size_t{1},
      peer.output_names.data(), peer.output_names.size(), peer.output_values.data());
    std::memcpy(actions + i * height, peer.outputs[0].data(), height * sizeof(float));
    const auto end = std::chrono::steady_clock::now();
    if (failed(status)) {
      return 1;
    }
    took_ns[i] = std::chrono::duration_cast<std::chrono::nanoseconds>(end - start).count();
  }
  return 0;
}
