// Substream: as many uniforms as a rejection sampler asks for, a pure function of one number of the noise.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/kernels.hpp"

namespace klqp {

// Uniforms on (0, 1) in pairs, from the blocks of Philox with key = the 64 bits of the number and counter =
// (attempt, 0, 0, 5); see docs/counters.md, "Substreams".
class Substream {
 public:
  struct Pair {
    double first, second;
  };

  explicit Substream(double noise) noexcept {
    const auto bits = std::bit_cast<std::uint64_t>(noise);
    key_[0] = static_cast<std::uint32_t>(bits);
    key_[1] = static_cast<std::uint32_t>(bits >> 32);
  }

  // The pair of the next attempt.
  Pair next() noexcept {
    const std::uint32_t counter[4] = {attempt_++, 0, 0, kStream};
    std::uint32_t words[4];
    kernels().philox(counter, key_, words);
    return {open_uniform(words[0], words[1]), open_uniform(words[2], words[3])};
  }

 private:
  static constexpr std::uint32_t kStream = 5;

  // The same 52 bits as those of the noise.
  static double open_uniform(std::uint32_t low, std::uint32_t high) noexcept {
    const std::uint64_t v = std::uint64_t{high} << 32 | low;
    return (static_cast<double>(v >> 12) + 0.5) * 0x1p-52;
  }

  std::uint32_t key_[2];
  std::uint32_t attempt_ = 0;
};

}  // namespace klqp
