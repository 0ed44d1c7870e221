// The iterations and line searches of L-BFGS.
#include "core/search/search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace klqp {
namespace {

constexpr double kSufficient = 1e-4, kFlatter = 0.9;  // the weak Wolfe conditions
constexpr int kMaxTrials = 40;
constexpr int kInARow = 2;           // iterations whose predicted gain must be small
constexpr double kRounding = 4e-15;  // relative error of values
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double dot(ConstSpan a, ConstSpan b) noexcept {
  return kernels().dot(static_cast<Index>(a.size()), a.data(), b.data());
}

// The minimum of the parabola through the start and a trial that was too long, kept within its interval.
double shorter(double t, double rise, double slope) noexcept {
  const double curvature = (rise - slope * t) / (t * t);
  return curvature > 0.0 ? std::min(0.5 * t, std::max(0.05 * t, -slope / (2.0 * curvature))) : 0.5 * t;
}

}  // namespace

Search::Search(ConstSpan start, SearchConfig config, std::shared_ptr<InverseHessian> memory, Guard guard)
    : config_(config),
      memory_(std::move(memory)),
      guard_(std::move(guard)),
      x_(start.begin(), start.end()),
      g_(x_.size()),
      d_(x_.size()),
      trial_(x_),
      step_(x_.size()),
      change_(x_.size()),
      best_x_(x_.size()),
      best_g_(x_.size()) {}

void Search::tell(double value, ConstSpan gradient) {
  if (!started_) {
    started_ = true;
    record(trial_, value, gradient);
    if (!std::isfinite(value)) return finish(false, "the start has no finite value");
    f_ = value;
    std::copy(gradient.begin(), gradient.end(), g_.begin());
    return begin_iteration();
  }
  if (value <= f_ + kSufficient * t_ * slope_ + kRounding * std::abs(f_)) {
    has_best_ = true;
    best_x_ = trial_;
    best_f_ = value;
    std::copy(gradient.begin(), gradient.end(), best_g_.begin());
    if (dot(gradient, d_) >= kFlatter * slope_ || (guard_ && !guard_(trial_).empty())) return end_line_search();
    low_ = t_;
  } else {
    high_ = t_;
  }
  next_trial(value);
}

void Search::begin_iteration() {
  if (iteration_++ == config_.max_iter) {
    return finish(false, "it took all " + std::to_string(config_.max_iter) + " iterations");
  }
  if (!find_direction() && memory_->n_pairs() > 0) {
    memory_->clear();
    find_direction();
  }
  small_ = -0.5 * slope_ < config_.tolerance ? small_ + 1 : 0;
  if (small_ >= kInARow || !(slope_ < 0.0)) return finish(true, "the gradient vanished");
  const bool scaled = memory_->n_pairs() > 0 || memory_->has_first();
  low_ = 0.0;
  high_ = kInfinity;
  t_ = scaled ? 1.0 : std::min(1.0, 1.0 / std::sqrt(dot(g_, g_)));
  trials_ = 0;
  has_best_ = false;
  try_step();
}

// d = -H g; whether it leads down.
bool Search::find_direction() {
  memory_->times(g_, d_);
  kernels().scale(dim(), -1.0, d_.data(), d_.data());
  slope_ = dot(g_, d_);
  return slope_ < 0.0;
}

void Search::try_step() {
  trial_ = x_;
  kernels().axpy(dim(), t_, d_.data(), trial_.data());
}

void Search::next_trial(double value) {
  if (++trials_ == kMaxTrials) return end_line_search();
  if (high_ < kInfinity) {
    t_ = low_ > 0.0 || !std::isfinite(value) ? 0.5 * (low_ + high_) : shorter(t_, value - f_, slope_);
    if (high_ - low_ < 1e-10 * high_) return end_line_search();
  } else {
    t_ = 4.0 * low_;
  }
  try_step();
}

void Search::end_line_search() {
  if (has_best_) return accept(best_x_, best_f_, best_g_);
  if (memory_->n_pairs() == 0) {
    // At the limits of rounding there is nothing to be gained.
    const bool flat = -0.5 * slope_ < std::max(config_.tolerance, 1e3 * kRounding * std::abs(f_));
    return finish(flat, "no step along the gradient improved the value");
  }
  memory_->clear();
  begin_iteration();
}

void Search::accept(ConstSpan x, double value, ConstSpan gradient) {
  for (std::size_t i = 0; i < x_.size(); ++i) {
    step_[i] = x[i] - x_[i];
    change_[i] = gradient[i] - g_[i];
  }
  memory_->add(step_, change_);
  std::copy(x.begin(), x.end(), x_.begin());
  std::copy(gradient.begin(), gradient.end(), g_.begin());
  f_ = value;
  record(x, value, gradient);
  const std::string said = guard_ ? guard_(x) : std::string();
  if (!said.empty()) return finish(false, said);
  begin_iteration();
}

void Search::record(ConstSpan x, double value, ConstSpan gradient) {
  values_.push_back(value);
  if (!config_.keep_path) {
    path_.clear();
    gradients_.clear();
  }
  path_.insert(path_.end(), x.begin(), x.end());
  gradients_.insert(gradients_.end(), gradient.begin(), gradient.end());
}

void Search::finish(bool converged, std::string why) {
  done_ = true;
  converged_ = converged;
  why_ = std::move(why);
}

}  // namespace klqp
