// StopRule: decides after a step whether the run is over.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "core/trace.hpp"
#include "core/view.hpp"

namespace klqp {

// What a rule may look at: the run since it was started or resumed.
struct Progress {
  const Trace& trace;
  std::size_t first_step;  // rows of the trace before this run
  double seconds;          // wall clock since this run began
  Index n_draws;           // a step
};

class StopRule {
 public:
  virtual ~StopRule() = default;
  virtual bool met(const Progress& progress) const noexcept = 0;
  virtual const char* name() const noexcept = 0;
};

class MaxSteps final : public StopRule {
 public:
  explicit MaxSteps(std::size_t n_steps) : n_steps_(n_steps) {}
  bool met(const Progress& progress) const noexcept override {
    return progress.trace.size() - progress.first_step >= n_steps_;
  }
  const char* name() const noexcept override { return "steps"; }

 private:
  std::size_t n_steps_;
};

// Before a step that would take the log density to more points than that.
class MaxEvaluations final : public StopRule {
 public:
  explicit MaxEvaluations(double n_points) : n_points_(n_points) {}
  bool met(const Progress& progress) const noexcept override {
    const std::size_t done = progress.trace.size() - progress.first_step;
    return static_cast<double>(done + 1) * static_cast<double>(progress.n_draws) > n_points_;
  }
  const char* name() const noexcept override { return "evaluations"; }

 private:
  double n_points_;
};

class TimeLimit final : public StopRule {
 public:
  explicit TimeLimit(double seconds) : seconds_(seconds) {}
  bool met(const Progress& progress) const noexcept override { return progress.seconds >= seconds_; }
  const char* name() const noexcept override { return "time"; }

 private:
  double seconds_;
};

// The loss no longer falls by more than its own Monte Carlo error: the mean of each of the last `patience` windows
// lies below that of the window before it by at most n_se standard errors of the difference. The errors are
// from ten batch means a window, since successive losses are correlated. Looks only at whole windows.
class Plateau final : public StopRule {
 public:
  Plateau(std::size_t window, std::size_t patience, double n_se) : window_(window), patience_(patience), n_se_(n_se) {
    if (window < 2 * kBatches) throw ConfigError("the plateau's window must be at least 20 steps");
    if (patience < 1) throw ConfigError("the plateau's patience must be at least 1");
  }
  bool met(const Progress& progress) const noexcept override {
    const std::size_t done = progress.trace.size() - progress.first_step;
    if (done == 0 || done % window_ != 0 || done < (patience_ + 1) * window_) return false;
    const double* const end = progress.trace.loss().data() + progress.trace.size();
    for (std::size_t k = 0; k < patience_; ++k) {
      const Window last = summarise(end - (k + 1) * window_), before = summarise(end - (k + 2) * window_);
      const double error = std::sqrt(last.variance + before.variance);
      if (!(before.mean - last.mean <= n_se_ * error)) return false;
    }
    return true;
  }
  const char* name() const noexcept override { return "plateau"; }

 private:
  static constexpr std::size_t kBatches = 10;
  struct Window {
    double mean, variance;  // of the window's mean
  };

  Window summarise(const double* loss) const noexcept {
    const std::size_t size = window_ / kBatches;
    double means[kBatches], mean = 0.0, squares = 0.0;
    for (std::size_t b = 0; b < kBatches; ++b) {
      means[b] = 0.0;
      for (std::size_t i = 0; i < size; ++i) means[b] += loss[b * size + i] / static_cast<double>(size);
      mean += means[b] / kBatches;
    }
    for (const double m : means) squares += (m - mean) * (m - mean);
    return {mean, squares / (kBatches * (kBatches - 1.0))};
  }

  std::size_t window_, patience_;
  double n_se_;
};

using StopRules = std::vector<std::unique_ptr<StopRule>>;

}  // namespace klqp
