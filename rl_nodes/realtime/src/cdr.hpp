// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// Serialized messages (CDR, little endian, version 1) read and written in place.
//
// The generated type support frees and allocates every sequence of every message. A control tick
// must not, and the few types it needs are laid out simply.

#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace rl_nodes
{

// Why a message is dropped; the text goes to people.
struct BadMessage : std::runtime_error
{
  using std::runtime_error::runtime_error;
};

constexpr size_t kEncapsulation = 4;  // bytes before the first value; alignment counts from there

class CdrReader
{
public:
  CdrReader(const uint8_t * data, size_t size)
  : data_(data), size_(size), at_(kEncapsulation)
  {
    if (size < kEncapsulation || data[0] != 0 || data[1] != 1) {
      throw BadMessage("not little-endian CDR");
    }
  }

  template<typename T>
  T value()
  {
    align(sizeof(T));
    const T * place = reinterpret_cast<const T *>(take(sizeof(T)));
    T result;
    std::memcpy(&result, place, sizeof(T));
    return result;
  }

  // A view into the message, without its terminating zero.
  std::string_view string()
  {
    const auto length = value<uint32_t>();
    if (length == 0) {
      return {};
    }
    const uint8_t * place = take(length);
    return {reinterpret_cast<const char *>(place), length - 1};
  }

  template<typename T>
  void values(T * into, size_t count)
  {
    if (count == 0) {
      return;
    }
    align(sizeof(T));
    std::memcpy(into, take(count * sizeof(T)), count * sizeof(T));
  }

  template<typename T>
  void skip(size_t count)
  {
    if (count > 0) {
      align(sizeof(T));
      take(checked(count, sizeof(T)));
    }
  }

  // Bytes that `count` values of this size take; refuses what cannot fit before multiplying.
  size_t checked(size_t count, size_t each) const
  {
    if (count > size_ / each) {
      throw BadMessage("message ends early");
    }
    return count * each;
  }

private:
  void align(size_t to)
  {
    at_ += (to - (at_ - kEncapsulation) % to) % to;
  }

  const uint8_t * take(size_t bytes)
  {
    if (at_ > size_ || bytes > size_ - at_) {
      throw BadMessage("message ends early");
    }
    const uint8_t * place = data_ + at_;
    at_ += bytes;
    return place;
  }

  const uint8_t * data_;
  size_t size_;
  size_t at_;
};

class CdrWriter
{
public:
  CdrWriter()
  : bytes{0, 1, 0, 0} {}

  template<typename T>
  size_t value(T given)
  {
    align(sizeof(T));
    const size_t at = bytes.size();
    bytes.resize(at + sizeof(T));
    std::memcpy(bytes.data() + at, &given, sizeof(T));
    return at;
  }

  void string(const std::string & text)
  {
    value(static_cast<uint32_t>(text.size() + 1));
    bytes.insert(bytes.end(), text.begin(), text.end());
    bytes.push_back(0);
  }

  // Room for a sequence of doubles; returns where the first one lies.
  size_t doubles(size_t count)
  {
    value(static_cast<uint32_t>(count));
    if (count == 0) {
      return bytes.size();
    }
    align(sizeof(double));
    const size_t at = bytes.size();
    bytes.resize(at + count * sizeof(double));
    return at;
  }

  std::vector<uint8_t> bytes;

private:
  void align(size_t to)
  {
    bytes.resize(bytes.size() + (to - (bytes.size() - kEncapsulation) % to) % to);
  }
};

}  // namespace rl_nodes
