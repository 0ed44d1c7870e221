// Pacer: says when 100 ms have passed, reading the clock seldom where steps are short.
#pragma once

#include <algorithm>
#include <chrono>

namespace klqp {

class Pacer {
 public:
  using Clock = std::chrono::steady_clock;

  // Whether 100 ms have passed since the last time it said so.
  bool due() noexcept {
    if (++calls_ < stride_) return false;
    calls_ = 0;
    const auto now = Clock::now();
    const bool short_steps = now - read_ < std::chrono::milliseconds(1);
    stride_ = short_steps ? std::min(2 * stride_, kMostCalls) : 1;
    read_ = now;
    if (now - said_ < std::chrono::milliseconds(100)) return false;
    said_ = now;
    return true;
  }

 private:
  static constexpr int kMostCalls = 64;  // between two readings of the clock

  int calls_ = 0, stride_ = 1;
  Clock::time_point read_ = Clock::now(), said_ = read_;
};

}  // namespace klqp
