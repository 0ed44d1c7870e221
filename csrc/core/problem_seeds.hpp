// Seeds of many problems, each with noise of its own (docs/counters.md).
#pragma once

#include <cstdint>
#include <vector>

#include "core/noise.hpp"

namespace klqp {

// Key of problem b = the first 64 bits of the block with counter (b, 0, 0, 6) under the seed as key.
inline std::vector<std::uint64_t> problem_seeds(std::uint64_t seed, std::size_t n) {
  const std::uint32_t key[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  std::vector<std::uint64_t> out(n);
  for (std::size_t b = 0; b < n; ++b) {
    const std::uint32_t counter[4] = {static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(b >> 32), 0,
                                      static_cast<std::uint32_t>(Stream::problem)};
    std::uint32_t words[4];
    kernels().philox(counter, key, words);
    out[b] = std::uint64_t{words[1]} << 32 | words[0];
  }
  return out;
}

}  // namespace klqp
