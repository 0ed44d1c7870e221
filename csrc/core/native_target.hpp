// NativeTarget: a log density behind a C function pointer (klqp/native.h).
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "core/errors.hpp"
#include "core/limits.hpp"
#include "core/target.hpp"
#include "klqp/native.h"

namespace klqp {

// Whoever makes a NativeTarget keeps the function and its user data alive.
class NativeTarget : public Target {
 public:
  NativeTarget(klqp_logdensity_v1 function, Index dim) : function_(function), dim_(dim) {}

  // What the function is handed from now on.
  void set_user_data(void* user_data) noexcept { function_.user_data = user_data; }

  Index dim() const override { return dim_; }
  bool native() const override { return true; }

  Matrix points(Index n) override {
    z_.resize(static_cast<std::size_t>(n * dim_));
    return {z_.data(), n, dim_};
  }

  Evaluation evaluate(Order order, Team& team) override {
    const Index n = static_cast<Index>(z_.size()) / dim_;
    logp_.assign(static_cast<std::size_t>(n), kNaN);
    grad_.assign(z_.size(), kNaN);
    std::atomic<int> worst{0};
    const auto rows = [&](Index begin, Index end) {
      const int status = call(begin, end - begin, order);
      if (status < 0) worst.store(status);
    };
    if ((function_.flags & KLQP_REENTRANT) != 0) {
      evaluate_pieces(n, rows, team);
    } else {
      rows(0, n);
    }
    if (worst.load() < 0) {
      throw TargetError("the native log density asked to stop the run (it returned " + std::to_string(worst.load()) +
                        ")");
    }
    return {logp_.data(), grad_.data()};
  }

 protected:
  const klqp_logdensity_v1& function() const noexcept { return function_; }
  const double* point(Index i) const noexcept { return z_.data() + i * dim_; }

 private:
  using Clock = std::chrono::steady_clock;

  static constexpr Index kPieces = 16;  // calls a reentrant function's batch is cut into, on any number of threads
  // A function has to have taken so long in a batch, and so long in all, to be worth threads by itself.
  static constexpr std::chrono::microseconds kLongBatch{50}, kLongInAll{1000};

  // What a function costs only the clock can say. Which threads compute a row does not change it.
  template <class Rows>
  void evaluate_pieces(Index n, const Rows& rows, Team& team) {
    const Index grain = (n + kPieces - 1) / kPieces;
    if (is_long_) return team.for_long_range(n, grain, rows);
    const auto start = Clock::now();
    team.for_range(n, grain, rows);
    const auto taken = Clock::now() - start;
    in_all_ += taken;
    is_long_ = taken > kLongBatch && in_all_ > kLongInAll;
  }

  int call(Index first, Index n, Order order) noexcept {
    const double* const z = z_.data() + first * dim_;
    double* const grad = grad_.data() + first * dim_;
    if ((function_.flags & KLQP_POINTWISE) == 0) {
      const auto fn = reinterpret_cast<klqp_logdensity_fn>(function_.fn);
      return fn(n, dim_, static_cast<std::int64_t>(order), z, logp_.data() + first,
                order == Order::gradient ? grad : nullptr, function_.user_data);
    }
    const auto fn = reinterpret_cast<klqp_pointwise_fn>(function_.fn);
    int worst = 0;
    for (Index s = 0; s < n; ++s) {
      const int status = fn(dim_, z + s * dim_, grad + s * dim_, &logp_[first + s], function_.user_data);
      worst = std::min(worst, status);
    }
    return worst;
  }

  klqp_logdensity_v1 function_;
  Index dim_;
  std::vector<double> z_, logp_, grad_;
  Clock::duration in_all_{};
  bool is_long_ = false;
};

}  // namespace klqp
