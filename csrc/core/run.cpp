// The steps of a run.
#include "core/run.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "core/limits.hpp"
#include "core/pacer.hpp"

namespace klqp {
namespace {

constexpr double kMostBackOffs = 25;        // in a row, before the run gives up
constexpr double kRateRecovery = 1.02;      // of the learning rate, per good step after backing off
constexpr Index kWorkForThreads = 1 << 16;  // elementary operations in a step that are worth a second thread

// Calls an observer every 100 ms.
class ObserverWatch final : public StepWatch {
 public:
  explicit ObserverWatch(const std::function<void()>& observer) : observer_(observer) {}
  bool go_on() override {
    if (observer_ && pacer_.due()) observer_();
    return true;
  }

 private:
  const std::function<void()>& observer_;
  Pacer pacer_;
};

}  // namespace

std::string Rejections::describe(const Objective& objective) const {
  char head[80], found[40];
  std::snprintf(head, sizeof head, "first at step %.0f, draw %.0f: ", step, draw);
  std::snprintf(found, sizeof found, " %g", value);
  const std::string why = explanation.empty() ? "" : " (" + explanation + ")";
  if (coordinate < 0.0)
    return std::string(head) + "log density" + objective.term_name(static_cast<Index>(term)) + found + why;
  return std::string(head) + "gradient" + found + objective.coordinate_name(static_cast<Index>(coordinate)) + why;
}

void Rejections::visit_state(StateVisitor& visitor) {
  visitor.scalar("rejections/minus_inf", minus_inf);
  visitor.scalar("rejections/invalid", invalid);
  visitor.scalar("rejections/step", step);
  visitor.scalar("rejections/draw", draw);
  visitor.scalar("rejections/coordinate", coordinate);
  visitor.scalar("rejections/term", term);
  visitor.scalar("rejections/value", value);
}

Run::Run(RunParts parts, RunConfig config, ConstSpan params)
    : parts_(std::move(parts)), config_(config), params_(params.begin(), params.end()), last_good_(params_) {
  const Objective& objective = *parts_.objective;
  const auto n_draws = static_cast<std::size_t>(parts_.noise->n_draws());
  if (static_cast<Index>(params_.size()) != objective.n_params()) {
    throw ConfigError("expected " + std::to_string(objective.n_params()) + " parameters, got " +
                      std::to_string(params_.size()));
  }
  if (objective.proximal() && !parts_.optimizer->has_common_step()) {
    throw ConfigError("proximal entropy steps need an optimizer with one step size: SGD or DoWG");
  }
  noise_.resize(n_draws * static_cast<std::size_t>(objective.noise_dim()));
  weights_.resize(n_draws);
  grad_.resize(params_.size());
  all_ = all_of(params_.size());
  parts_.optimizer->start(params_);
  if (objective.touched() != nullptr) parts_.optimizer->count_each_coordinate();
  if (config_.average) average_.start(params_.size());
}

std::string Run::until(ConstSpan learning_rates, const StopRules& rules, const std::function<void()>& observer,
                       double elapsed) {
  const Index work = parts_.objective->work_per_step();
  const bool threads_pay = work >= kWorkForThreads && work * static_cast<Index>(learning_rates.size()) >= kWorkForTeam;
  const CpuShare share(config_.n_threads, config_.n_cpus);
  Team team(config_.n_threads, &share);
  team.share_short_work(threads_pay);
  ObserverWatch watch(observer);
  return take_steps(learning_rates, rules, watch, elapsed, team);
}

const char* Run::until(ConstSpan learning_rates, const StopRules& rules, StepWatch& watch) {
  Team serial(1);
  return take_steps(learning_rates, rules, watch, 0.0, serial);
}

const char* Run::take_steps(ConstSpan learning_rates, const StopRules& rules, StepWatch& watch, double elapsed,
                            Team& team) {
  trace_.reserve(learning_rates.size());
  const auto start = Pacer::Clock::now();
  for (const double rate : learning_rates) {
    step(rate, team);
    if (!rules.empty()) {
      const std::chrono::duration<double> seconds = Pacer::Clock::now() - start;
      if (const char* const name = met(rules, elapsed + seconds.count())) return name;
    }
    if (!watch.go_on()) break;
  }
  return "";
}

const char* Run::met(const StopRules& rules, double seconds) const {
  const Progress progress{trace_, static_cast<std::size_t>(first_step_), seconds, parts_.noise->n_draws()};
  for (const auto& rule : rules) {
    if (rule->met(progress)) return rule->name();
  }
  return nullptr;
}

// Noise, and draws where these do not need the target.
void Run::draw(std::uint32_t step, Team& team) {
  parts_.noise->fill(step, noise(), team);
  parts_.objective->draw(params_, noise(), team);
}

// The log density at the draws; returns how many draws can be used.
Index Run::evaluate_draws(Team& team) {
  const Evaluation evaluation = parts_.objective->evaluate(params_, noise(), team);
  std::fill(weights_.begin(), weights_.end(), 1.0);
  return screen(evaluation);
}

void Run::step(double learning_rate, Team& team) {
  begin_step(team);
  finish_step(learning_rate, team);
}

void Run::finish_step(double learning_rate, Team& team) {
  const Index n_draws = parts_.noise->n_draws();
  Index n_accepted = evaluate_draws(team);
  TraceRow row{};
  row.learning_rate = learning_rate * rate_factor_;
  row.loss = row.std_error = row.log_p = row.entropy = row.log_lik = row.kl = row.penalty = row.grad_norm = kNaN;
  bool usable = 2 * n_accepted > n_draws;
  if (usable) {
    Estimate estimate = estimate_gradient(team);
    // A finite norm has finite elements; only otherwise is a closer look needed.
    double square = square_of_gradient();
    const auto is_finite = [&](const IndexRange& range) {
      return std::isfinite(kernels().sum(range.size(), grad_.data() + range.begin));
    };
    if (!std::isfinite(square) && !std::all_of(moved().begin(), moved().end(), is_finite)) {
      const Index n_left = screen(parts_.objective->look_again());
      usable = n_left < n_accepted && 2 * n_left > n_draws;
      n_accepted = n_left;
      if (usable) {
        estimate = estimate_gradient(team);
        square = square_of_gradient();
      }
    }
    row.grad_norm = std::sqrt(square);
    if (std::isfinite(row.grad_norm)) apply_gradient(row.learning_rate, team);
    usable = std::isfinite(row.grad_norm);
    row.loss = -estimate.elbo;
    row.std_error = estimate.std_error;
    row.log_p = estimate.log_p;
    row.entropy = estimate.entropy;
    row.log_lik = estimate.log_lik;
    row.kl = estimate.kl;
    row.penalty = estimate.penalty;
  }
  row.n_rejected = static_cast<double>(n_draws - n_accepted);
  if (!usable) back_off();
  trace_.add(row);
  step_ += 1.0;
}

// Takes the weight of draws that cannot be used, counts them, shares the weight among the others and returns their
// number.
Index Run::screen(const Evaluation& evaluation) {
  const Index n_draws = parts_.noise->n_draws(), dim = parts_.objective->gradient_size();
  Index n_accepted = 0;
  // A finite sum has finite terms; only otherwise is a closer look needed.
  const bool look_at_gradients =
      evaluation.grad != nullptr && !std::isfinite(kernels().sum(n_draws * dim, evaluation.grad));
  for (Index s = 0; s < n_draws; ++s) {
    if (weights_[s] == 0.0) continue;
    double value = evaluation.logp[s];
    Index coordinate = -1;
    if (look_at_gradients && std::isfinite(value)) {
      const double* const grad = evaluation.grad + s * dim;
      for (Index i = 0; i < dim && coordinate < 0; ++i) {
        if (!std::isfinite(grad[i])) {
          value = grad[i];
          coordinate = i;
        }
      }
    }
    const bool accepted = std::isfinite(value);
    weights_[s] = accepted ? 1.0 : 0.0;
    n_accepted += accepted;
    if (!accepted) reject(s, coordinate, value);
  }
  for (double& w : weights_) w /= static_cast<double>(std::max<Index>(1, n_accepted));
  return n_accepted;
}

void Run::reject(Index draw, Index coordinate, double value) {
  if (rejections_.total() == 0.0) {
    rejections_.step = step_;
    rejections_.draw = static_cast<double>(draw);
    rejections_.coordinate = static_cast<double>(coordinate);
    rejections_.term = coordinate < 0 ? static_cast<double>(parts_.objective->culprit(draw)) : -1.0;
    rejections_.explanation = parts_.objective->explain(draw);
    rejections_.value = std::isnan(value) ? kNaN : value;  // never "-nan"
  }
  const bool outside = coordinate < 0 && value < 0.0;
  (outside ? rejections_.minus_inf : rejections_.invalid) += 1.0;
}

Estimate Run::estimate_gradient(Team& team) {
  const auto clear = [&](const Ranges& ranges) {
    for (const IndexRange& range : ranges) std::fill_n(grad_.begin() + range.begin, range.size(), 0.0);
  };
  clear(graded_);
  clear(moved());
  if (parts_.objective->touched() != nullptr) graded_ = moved();
  return parts_.objective->add_gradient(weights_, *parts_.noise, grad_, team);
}

double Run::square_of_gradient() const noexcept {
  double squares = 0.0;
  for (const IndexRange& range : moved()) {
    const double* const grad = grad_.data() + range.begin;
    squares += kernels().dot(range.size(), grad, grad);
  }
  return squares;
}

// The coordinates that this step moves.
const Ranges& Run::moved() const noexcept {
  const Ranges* const touched = parts_.objective->touched();
  return touched != nullptr ? *touched : all_;
}

// last_good_ <- params_, of which only what the last step and this one move can differ.
void Run::keep_last_good() {
  for (const Ranges* const ranges : {&std::as_const(moved_before_), &moved()}) {
    for (const IndexRange& range : *ranges) {
      std::copy_n(params_.begin() + range.begin, range.size(), last_good_.begin() + range.begin);
    }
  }
  if (parts_.objective->touched() != nullptr) moved_before_ = moved();
}

// Takes the optimizer's step.
void Run::apply_gradient(double learning_rate, Team& team) {
  keep_last_good();
  any_good_ = 1.0;
  backed_off_ = 0.0;
  for (const IndexRange& range : moved()) {  // the optimizer minimises the loss
    kernels().scale(range.size(), -1.0, grad_.data() + range.begin, grad_.data() + range.begin);
  }
  config_.clip.apply(grad_);
  const double step_size = parts_.optimizer->update(grad_, learning_rate, params_, moved(), team);
  stretch_step();
  if (parts_.objective->proximal()) parts_.objective->proximal_step(step_size, params_);
  parts_.objective->project(params_);
  if (config_.average) average_.add(params_);
  rate_factor_ = std::min(1.0, rate_factor_ * kRateRecovery);
}

// Multiplies the step just taken by the relative rates. For rules like Adam's, which do not depend on the gradient's
// units, that is their step in parameters divided by these rates.
void Run::stretch_step() noexcept {
  if (relative_rates_.empty()) return;
  for (const IndexRange& range : moved()) {
    for (Index i = range.begin; i < range.end; ++i) {
      params_[i] = last_good_[i] + relative_rates_[i] * (params_[i] - last_good_[i]);
    }
  }
}

// Too many draws were rejected, or the gradient overflowed: return to the last lambda that worked, with half the
// learning rate and no momentum; from the second time in a row on, also shrink q towards its location.
void Run::back_off() {
  if (any_good_ == 0.0 && weights_ == std::vector<double>(weights_.size(), 0.0)) {
    throw TargetError("the log density is not finite at any of the " + std::to_string(weights_.size()) +
                      " draws from the starting q (" + describe_rejections() +
                      "); start where it is finite: init_loc, init_scale");
  }
  backed_off_ += 1.0;
  if (backed_off_ > kMostBackOffs) {
    throw TargetError("the run cannot go on: too many draws were rejected in " +
                      std::to_string(static_cast<int>(kMostBackOffs)) + " steps in a row; " + describe_rejections());
  }
  if (any_good_ != 0.0) params_ = last_good_;
  if (backed_off_ > 1.0 || any_good_ == 0.0) parts_.objective->contract(std::exp2(-backed_off_), params_);
  parts_.optimizer->start(params_);
  parts_.objective->reset();
  rate_factor_ *= 0.5;
}

const std::vector<double>& Run::solution() const noexcept {
  return config_.average && !average_.empty() ? average_.value() : params_;
}

double Run::gradient(std::uint32_t step, Span out) {
  Team serial(1);
  draw(step, serial);
  evaluate_draws(serial);
  const Estimate estimate = estimate_gradient(serial);
  std::copy(grad_.begin(), grad_.end(), out.begin());
  return estimate.elbo;
}

void Run::set_params(ConstSpan params) {
  if (params.size() != params_.size()) throw ConfigError("expected " + std::to_string(params_.size()) + " parameters");
  std::copy(params.begin(), params.end(), params_.begin());
  last_good_ = params_;
}

void Run::set_relative_rates(ConstSpan rates) {
  if (!rates.empty() && rates.size() != params_.size()) {
    throw ConfigError("expected " + std::to_string(params_.size()) + " relative rates");
  }
  relative_rates_.assign(rates.begin(), rates.end());
}

void Run::reset() {
  step_ = any_good_ = backed_off_ = 0.0;
  rate_factor_ = 1.0;
  rejections_ = {};
  trace_.clear();
  first_step_ = 0.0;
  parts_.optimizer->start(params_);
  parts_.objective->reset();
  if (config_.average) average_.start(params_.size());
}

void Run::restart(ConstSpan params, std::uint64_t seed) {
  set_params(params);
  parts_.noise->set_seed(seed);
  reset();
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
  parts_.objective->visit_state(visitor);
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
  rejections_.explanation.clear();
  visit_state(commit);
  moved_before_ = all_;
}

}  // namespace klqp
