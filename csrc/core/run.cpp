// The steps of a run.
#include "core/run.hpp"

#include <chrono>
#include <cstdio>

namespace klqp {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMostBackOffs = 25;            // in a row, before the run gives up
constexpr double kRateRecovery = 1.02;          // of the learning rate, per good step after backing off
constexpr Index kWorkForThreads = 1 << 16;      // elementary operations in a step that are worth a second thread
constexpr Index kWorkForTeam = Index{1} << 22;  // ... in a run that are worth starting threads at all
constexpr auto kObserveEvery = std::chrono::milliseconds(100);

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

std::string Rejections::describe() const {
  char text[256];
  if (coordinate < 0.0) {
    std::snprintf(text, sizeof text, "first at step %.0f, draw %.0f: log density %g", step, draw, value);
  } else {
    std::snprintf(text, sizeof text, "first at step %.0f, draw %.0f: gradient %g in coordinate %.0f", step, draw, value,
                  coordinate);
  }
  return text;
}

void Rejections::visit_state(StateVisitor& visitor) {
  visitor.scalar("rejections/minus_inf", minus_inf);
  visitor.scalar("rejections/invalid", invalid);
  visitor.scalar("rejections/step", step);
  visitor.scalar("rejections/draw", draw);
  visitor.scalar("rejections/coordinate", coordinate);
  visitor.scalar("rejections/value", value);
}

Run::Run(RunParts parts, RunConfig config, ConstSpan params)
    : parts_(std::move(parts)), config_(config), params_(params.begin(), params.end()), last_good_(params_) {
  const Family& family = *parts_.family;
  const auto n_draws = static_cast<std::size_t>(parts_.noise->n_draws());
  if (parts_.target->dim() != family.dim()) throw ConfigError("the target and the family differ in dimension");
  if (static_cast<Index>(params_.size()) != family.n_params()) {
    throw ConfigError("expected " + std::to_string(family.n_params()) + " parameters, got " +
                      std::to_string(params_.size()));
  }
  if (config_.proximal && !parts_.optimizer->has_common_step()) {
    throw ConfigError("proximal entropy steps need an optimizer with one step size: SGD or DoWG");
  }
  noise_.resize(n_draws * static_cast<std::size_t>(family.noise_dim()));
  if (family.standardises()) standardised_.resize(noise_.size());
  scratch_.resize(n_draws * static_cast<std::size_t>(family.dim()));
  logq_.resize(n_draws);
  weights_.resize(n_draws);
  grad_.resize(params_.size());
  parts_.optimizer->start(params_);
  if (config_.average) average_.start(params_.size());
}

Index Run::work_per_step() const noexcept {
  const Index per_draw = parts_.family->noise_dim() + parts_.family->dim() + parts_.family->n_params();
  return parts_.noise->n_draws() * per_draw;
}

std::string Run::until(ConstSpan learning_rates, const StopRules& rules, const std::function<void()>& observer,
                       double elapsed) {
  const Index work = work_per_step();
  const bool threads_pay = work >= kWorkForThreads && work * static_cast<Index>(learning_rates.size()) >= kWorkForTeam;
  Team team(threads_pay ? config_.n_threads : 1);
  trace_.reserve(learning_rates.size());
  const auto start = Clock::now();
  auto observed = start;
  for (const double rate : learning_rates) {
    step(rate, team);
    const Progress progress{trace_, static_cast<std::size_t>(first_step_), elapsed + seconds_since(start)};
    for (const auto& rule : rules) {
      if (rule->met(progress)) return rule->name();
    }
    if (observer && Clock::now() - observed >= kObserveEvery) {
      observer();
      observed = Clock::now();
    }
  }
  return "";
}

// Noise, draws, and the log density at the draws.
Evaluation Run::evaluate_draws(std::uint32_t step, Team& team) {
  Family& family = *parts_.family;
  const Index n_draws = parts_.noise->n_draws();
  const Matrix noise{noise_.data(), n_draws, family.noise_dim()};
  family.prepare(params_, team);
  parts_.noise->fill(step, noise, team);
  family.transform(noise, parts_.target->points(n_draws), team);
  return parts_.target->evaluate(parts_.estimator->order(), team);
}

void Run::step(double learning_rate, Team& team) {
  const Index n_draws = parts_.noise->n_draws();
  const Evaluation evaluation = evaluate_draws(step_count(), team);
  const Index n_accepted = screen(evaluation, parts_.estimator->order());
  TraceRow row{};
  row.learning_rate = learning_rate * rate_factor_;
  row.n_rejected = static_cast<double>(n_draws - n_accepted);
  row.loss = row.std_error = row.log_p = row.entropy = row.grad_norm = std::numeric_limits<double>::quiet_NaN();
  bool usable = 2 * n_accepted > n_draws;
  if (usable) {
    const Estimate estimate = estimate_gradient(evaluation, team);
    row.loss = -estimate.elbo;
    row.std_error = estimate.std_error;
    row.log_p = estimate.log_p;
    row.entropy = estimate.entropy;
    row.grad_norm = apply_gradient(row.learning_rate, team);
    usable = std::isfinite(row.grad_norm);
  }
  if (!usable) back_off();
  trace_.add(row);
  step_ += 1.0;
}

// Sets the weights of the draws and counts those that cannot be used; returns the number that can.
Index Run::screen(const Evaluation& evaluation, Order order) {
  const Index n_draws = parts_.noise->n_draws(), dim = parts_.family->dim();
  Index n_accepted = 0;
  // A finite sum has finite terms; only otherwise is a closer look needed.
  const bool look_at_gradients =
      order == Order::gradient && !std::isfinite(kernels().sum(n_draws * dim, evaluation.grad));
  for (Index s = 0; s < n_draws; ++s) {
    double value = evaluation.logp[s], coordinate = -1.0;
    if (look_at_gradients && std::isfinite(value)) {
      const double* const grad = evaluation.grad + s * dim;
      for (Index i = 0; i < dim && coordinate < 0.0; ++i) {
        if (!std::isfinite(grad[i])) {
          value = grad[i];
          coordinate = static_cast<double>(i);
        }
      }
    }
    const bool accepted = std::isfinite(value);
    weights_[s] = accepted ? 1.0 : 0.0;
    n_accepted += accepted;
    if (accepted) continue;
    if (rejections_.total() == 0.0) {
      rejections_.step = step_;
      rejections_.draw = static_cast<double>(s);
      rejections_.coordinate = coordinate;
      rejections_.value = std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value;  // never "-nan"
    }
    const bool outside = coordinate < 0.0 && value < 0.0;
    (outside ? rejections_.minus_inf : rejections_.invalid) += 1.0;
  }
  for (double& w : weights_) w /= static_cast<double>(std::max<Index>(1, n_accepted));
  return n_accepted;
}

Estimate Run::estimate_gradient(const Evaluation& evaluation, Team& team) {
  const Family& family = *parts_.family;
  const Index n_draws = parts_.noise->n_draws();
  const ConstMatrix noise{noise_.data(), n_draws, family.noise_dim()};
  ConstMatrix e = noise;
  if (family.standardises()) {
    family.standardise_noise(noise, {standardised_.data(), n_draws, noise.cols}, team);
    e.data = standardised_.data();
  }
  family.log_density(e, logq_, team);
  std::fill(grad_.begin(), grad_.end(), 0.0);
  const Batch batch{
      e, evaluation.logp, evaluation.grad, logq_, weights_, *parts_.noise, {scratch_.data(), n_draws, family.dim()}};
  return parts_.estimator->add_gradient(batch, family, grad_, team);
}

// Takes the optimizer's step and returns the gradient's norm; takes none where that is not finite.
double Run::apply_gradient(double learning_rate, Team& team) {
  const auto n = static_cast<Index>(grad_.size());
  const double norm = std::sqrt(kernels().dot(n, grad_.data(), grad_.data()));
  if (!std::isfinite(norm)) return norm;
  last_good_ = params_;
  any_good_ = 1.0;
  backed_off_ = 0.0;
  kernels().scale(n, -1.0, grad_.data(), grad_.data());  // the optimizer minimises the loss
  config_.clip.apply(grad_);
  const double step_size = parts_.optimizer->update(grad_, learning_rate, params_, team);
  if (config_.proximal) parts_.family->proximal_step(step_size, params_);
  parts_.family->project(params_);
  if (config_.average) average_.add(params_);
  rate_factor_ = std::min(1.0, rate_factor_ * kRateRecovery);
  return norm;
}

// Too many draws were rejected, or the gradient overflowed: return to the last lambda that worked, with half the
// learning rate and no momentum; from the second time in a row on, also shrink q towards its location.
void Run::back_off() {
  if (any_good_ == 0.0 && weights_ == std::vector<double>(weights_.size(), 0.0)) {
    throw TargetError("the log density is not finite at any of the " + std::to_string(weights_.size()) +
                      " draws from the starting q (" + rejections_.describe() +
                      "); start where it is finite: init_loc, init_scale");
  }
  backed_off_ += 1.0;
  if (backed_off_ > kMostBackOffs) {
    throw TargetError("the run cannot go on: too many draws were rejected in " +
                      std::to_string(static_cast<int>(kMostBackOffs)) + " steps in a row; " + rejections_.describe());
  }
  if (any_good_ != 0.0) params_ = last_good_;
  if (backed_off_ > 1.0 || any_good_ == 0.0) parts_.family->contract(std::exp2(-backed_off_), params_);
  parts_.optimizer->start(params_);
  parts_.estimator->reset();
  rate_factor_ *= 0.5;
}

const std::vector<double>& Run::solution() const noexcept {
  return config_.average && !average_.empty() ? average_.value() : params_;
}

double Run::gradient(std::uint32_t step, Span out) {
  Team serial(1);
  const Evaluation evaluation = evaluate_draws(step, serial);
  screen(evaluation, parts_.estimator->order());
  const Estimate estimate = estimate_gradient(evaluation, serial);
  std::copy(grad_.begin(), grad_.end(), out.begin());
  return estimate.elbo;
}

void Run::reset() {
  step_ = any_good_ = backed_off_ = 0.0;
  rate_factor_ = 1.0;
  rejections_ = {};
  trace_ = {};
  first_step_ = 0.0;
  parts_.optimizer->start(params_);
  parts_.estimator->reset();
  if (config_.average) average_.start(params_.size());
}

void Run::visit_state(StateVisitor& visitor) {
  visitor.scalar("step", step_);
  visitor.scalar("first_step", first_step_);
  visitor.array("params", params_);
  visitor.array("last_good", last_good_);
  visitor.scalar("any_good", any_good_);
  visitor.scalar("backed_off", backed_off_);
  visitor.scalar("rate_factor", rate_factor_);
  rejections_.visit_state(visitor);
  parts_.optimizer->visit_state(visitor);
  parts_.estimator->visit_state(visitor);
  if (config_.average) average_.visit_state(visitor);
  trace_.visit_state(visitor);
}

Snapshot Run::snapshot() {
  Snapshot snapshot;
  SaveState save(snapshot);
  visit_state(save);
  return snapshot;
}

// Either the whole snapshot fits or nothing is changed.
void Run::restore(const Snapshot& snapshot) {
  RestoreState check(snapshot, false);
  visit_state(check);
  RestoreState commit(snapshot, true);
  visit_state(commit);
}

}  // namespace klqp
