// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// The wheel of ONNX Runtime carries the library without its header. The C API is a table of
// function pointers that only grows at its end, so the entries needed are named by their position.

#include "policy.hpp"

#include <dlfcn.h>

#include <cmath>
#include <stdexcept>
#include <utility>

namespace rl_nodes
{

namespace
{

constexpr uint32_t kApiVersion = 14;

enum Slot
{
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSessionFromArray = 8,
  kCreateSessionOptions = 10,
  kSetSessionExecutionMode = 13,
  kSetGraphOptimizationLevel = 23,
  kSetIntraOpNumThreads = 24,
  kSetInterOpNumThreads = 25,
  kCreateTensorWithData = 49,
  kCreateCpuMemoryInfo = 69,
  kReleaseEnv = 92,
  kReleaseStatus = 93,
  kReleaseMemoryInfo = 94,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseSessionOptions = 100,
  kAddSessionConfigEntry = 130,
  kRunWithBinding = 133,
  kCreateIoBinding = 134,
  kReleaseIoBinding = 135,
  kBindInput = 136,
  kBindOutput = 137,
};

using Handle = void *;  // every object of the API is opaque; a null status means success

struct ApiBase
{
  void * const * (*get_api)(uint32_t version);
  const char * (*get_version_string)();
};

template<typename... Arguments>
Handle call(void * const * api, Slot slot, Arguments... arguments)
{
  return reinterpret_cast<Handle (*)(Arguments...)>(api[slot])(arguments...);
}

void release(void * const * api, Slot slot, Handle object)
{
  if (object != nullptr) {
    reinterpret_cast<void (*)(Handle)>(api[slot])(object);
  }
}

}  // namespace

struct Policy::Session
{
  explicit Session(const std::string & library)
  {
    void * loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays: others may use it
    if (loaded == nullptr) {
      throw std::runtime_error(dlerror());
    }
    auto base = reinterpret_cast<const ApiBase * (*)()>(dlsym(loaded, "OrtGetApiBase"));
    api = base == nullptr ? nullptr : base()->get_api(kApiVersion);
    if (api == nullptr) {
      throw std::runtime_error(library + " has no C API of version 14");
    }
  }

  ~Session()
  {
    release(api, kReleaseIoBinding, binding);
    release(api, kReleaseValue, output);
    release(api, kReleaseValue, input);
    release(api, kReleaseSession, session);
    release(api, kReleaseMemoryInfo, memory);
    release(api, kReleaseSessionOptions, options);
    release(api, kReleaseEnv, env);
  }

  void check(Handle status) const
  {
    if (status != nullptr) {
      std::string text =
        reinterpret_cast<const char * (*)(Handle)>(api[kGetErrorMessage])(status);
      release(api, kReleaseStatus, status);
      throw std::runtime_error("ONNX Runtime: " + text);
    }
  }

  Handle tensor(std::vector<float> & values) const
  {
    const int64_t shape[] = {1, static_cast<int64_t>(values.size())};
    const int float32 = 1;
    Handle made = nullptr;
    check(
      call(
        api, kCreateTensorWithData, memory, static_cast<void *>(values.data()),
        values.size() * sizeof(float), &shape[0], size_t{2}, float32, &made));
    return made;
  }

  void * const * api = nullptr;
  Handle env = nullptr;
  Handle options = nullptr;
  Handle memory = nullptr;
  Handle session = nullptr;
  Handle input = nullptr;
  Handle output = nullptr;
  Handle binding = nullptr;
};

Policy::Policy(
  const std::string & library, const std::string & model, size_t observations, size_t actions,
  std::string given_label, int threads)
: label(std::move(given_label)), observation(observations), action(actions),
  session_(std::make_unique<Session>(library))
{
  Session & s = *session_;
  const int fatal = 4, arena = 1, standard_memory = 0, sequential = 0, all = 99;
  s.check(call(s.api, kCreateEnv, fatal, "rl_nodes", &s.env));
  s.check(call(s.api, kCreateSessionOptions, &s.options));
  s.check(call(s.api, kSetSessionExecutionMode, s.options, sequential));
  s.check(call(s.api, kSetGraphOptimizationLevel, s.options, all));
  s.check(call(s.api, kSetIntraOpNumThreads, s.options, threads));
  s.check(call(s.api, kSetInterOpNumThreads, s.options, 1));
  // Spinning workers would take a core from the control loop between two ticks.
  for (const char * entry : {"session.intra_op.allow_spinning", "session.inter_op.allow_spinning"})
  {
    s.check(call(s.api, kAddSessionConfigEntry, s.options, entry, "0"));
  }
  s.check(
    call(
      s.api, kCreateSessionFromArray, s.env, static_cast<const void *>(model.data()),
      model.size(), s.options, &s.session));
  s.check(call(s.api, kCreateCpuMemoryInfo, arena, standard_memory, &s.memory));
  s.input = s.tensor(observation);
  s.output = s.tensor(action);
  s.check(call(s.api, kCreateIoBinding, s.session, &s.binding));
  s.check(call(s.api, kBindInput, s.binding, "observation", s.input));
  s.check(call(s.api, kBindOutput, s.binding, "action", s.output));
  for (int i = 0; i < 20; ++i) {  // warm up: arenas, caches, branch predictors
    s.check(call(s.api, kRunWithBinding, s.session, static_cast<Handle>(nullptr), s.binding));
  }
}

Policy::~Policy() = default;

bool Policy::run() noexcept
{
  Session & s = *session_;
  Handle status =
    call(s.api, kRunWithBinding, s.session, static_cast<Handle>(nullptr), s.binding);
  if (status != nullptr) {
    release(s.api, kReleaseStatus, status);
    return false;
  }
  for (float value : action) {
    if (!std::isfinite(value)) {
      return false;
    }
  }
  return true;
}

}  // namespace rl_nodes
