// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// The part of ONNX Runtime's C API that is used here. Its wheel carries the library without the
// header; the API is a table of function pointers that only grows at its end, so the entries
// needed are named by their position.

#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace rl_nodes::ort
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
using Api = void * const *;

template<typename... Arguments>
Handle call(Api api, Slot slot, Arguments... arguments)
{
  return reinterpret_cast<Handle (*)(Arguments...)>(api[slot])(arguments...);
}

inline void release(Api api, Slot slot, Handle object)
{
  if (object != nullptr) {
    reinterpret_cast<void (*)(Handle)>(api[slot])(object);
  }
}

inline void check(Api api, Handle status)
{
  if (status != nullptr) {
    const std::string text =
      reinterpret_cast<const char * (*)(Handle)>(api[kGetErrorMessage])(status);
    release(api, kReleaseStatus, status);
    throw std::runtime_error("ONNX Runtime: " + text);
  }
}

// The library stays loaded: others may use it.
inline Api load(const std::string & library)
{
  struct Base
  {
    Api (* get_api)(uint32_t version);
    const char * (*get_version_string)();
  };
  void * loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (loaded == nullptr) {
    throw std::runtime_error(dlerror());
  }
  auto base = reinterpret_cast<const Base * (*)()>(dlsym(loaded, "OrtGetApiBase"));
  Api api = base == nullptr ? nullptr : base()->get_api(kApiVersion);
  if (api == nullptr) {
    throw std::runtime_error(
            library + " has no C API of version " + std::to_string(kApiVersion));
  }
  return api;
}

inline size_t elements(const std::vector<int64_t> & shape)
{
  size_t count = 1;
  for (int64_t size : shape) {
    count *= static_cast<size_t>(size);
  }
  return count;
}

// A float32 tensor whose values stay where they are.
inline Handle tensor(Api api, Handle memory, float * values, const std::vector<int64_t> & shape)
{
  const int float32 = 1;
  Handle made = nullptr;
  check(
    api, call(
      api, kCreateTensorWithData, memory, static_cast<void *>(values),
      elements(shape) * sizeof(float), shape.data(), shape.size(), float32, &made));
  return made;
}

// Run one call after the other; workers that spin would take a core from a loop between two ticks.
inline Handle session_options(Api api, int threads)
{
  const int sequential = 0, all = 99;
  Handle options = nullptr;
  check(api, call(api, kCreateSessionOptions, &options));
  check(api, call(api, kSetSessionExecutionMode, options, sequential));
  check(api, call(api, kSetGraphOptimizationLevel, options, all));
  check(api, call(api, kSetIntraOpNumThreads, options, threads));
  check(api, call(api, kSetInterOpNumThreads, options, 1));
  for (const char * entry : {"session.intra_op.allow_spinning", "session.inter_op.allow_spinning"})
  {
    check(api, call(api, kAddSessionConfigEntry, options, entry, "0"));
  }
  return options;
}

}  // namespace rl_nodes::ort
