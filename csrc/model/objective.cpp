// Gradients and values of a model's ELBO.
#include "model/objective.hpp"

#include "core/estimator/means.hpp"

namespace klqp {
namespace {

// The sign with which a kind of term enters the ELBO, entropies and log q apart.
double sign_of(TermKind kind) {
  return kind == TermKind::kl || kind == TermKind::penalty || kind == TermKind::log_q ? -1.0 : 1.0;
}

constexpr double kDecay = 0.98;  // as in core/estimator/adaptive.hpp
constexpr double kWarmUp = 20;

}  // namespace

TermKind parse_term_kind(const std::string& name) {
  if (name == "likelihood") return TermKind::likelihood;
  if (name == "prior") return TermKind::prior;
  if (name == "log_q") return TermKind::log_q;
  if (name == "score") return TermKind::score;
  if (name == "entropy") return TermKind::entropy;
  if (name == "kl") return TermKind::kl;
  if (name == "penalty") return TermKind::penalty;
  throw ConfigError("unknown kind of term '" + name + "'");
}

template <class Choose>
SweepPlan ModelObjective::plan_for(const Choose& choose) const {
  std::vector<Slot*> seeds;
  for (const Term& term : model_->terms) {
    if (choose(term) && term.slot->active) seeds.push_back(term.slot);
  }
  return model_->program.plan(seeds, stops_);
}

ModelObjective::ModelObjective(std::shared_ptr<Model> model, ModelOptions options, const Noise& draws, Index n_params)
    : model_(std::move(model)), options_(std::move(options)), n_params_(n_params), n_draws_(draws.n_draws()) {
  if (options_.score && options_.bound) throw ConfigError("another objective than the ELBO needs pathwise gradients");
  if (options_.score && !model_->factors.empty()) require_baseline(draws);
  if (options_.bound) {
    bound_weights_.assign(static_cast<std::size_t>(n_draws_), 0.0);
    log_ratio_.reserve(static_cast<std::size_t>(n_draws_));
  }
  model_->program.allocate(n_draws_);
  for (const Factor& factor : model_->factors) {
    any_adaptive_ |= !options_.bound && !options_.score && is_adaptive(factor);
  }
  if (options_.score) {
    for (const Factor& factor : model_->factors) stops_.push_back(factor.draw);
  }
  base_plan_ = plan_for([&](const Term& term) { return weight_of(term) != 0.0; });
  for (Node* node : base_plan_.nodes) node->expect_backward();
  if (any_adaptive_) {
    Index most = 0;
    for (const Factor& factor : model_->factors) {
      if (factor.family != nullptr && is_adaptive(factor)) most = std::max(most, factor.family->family().dim());
    }
    scratch_.assign(static_cast<std::size_t>(n_draws_ * most), 0.0);
    path_plan_ = plan_for([&](const Term& term) { return swept_apart(term, TermKind::log_q); });
    entropy_plan_ = plan_for([&](const Term& term) { return swept_apart(term, TermKind::entropy); });
    for (auto* values : {&adaptive_.cfe, &adaptive_.x, &adaptive_.entropy, &adaptive_.mean, &adaptive_.covariance,
                         &adaptive_.variance}) {
      values->assign(static_cast<std::size_t>(n_params), 0.0);
    }
  }
  if (options_.score) {
    for (int f = 0; f < static_cast<int>(model_->factors.size()); ++f) {
      score_plans_.push_back(
          plan_for([&](const Term& term) { return term.kind == TermKind::score && term.factor == f; }));
    }
  }
  for (const Term& term : model_->terms) {
    if (const double sign = sign_in_value(term); sign != 0.0) parts_.push_back({&term, sign});
  }
  const auto n = static_cast<std::size_t>(n_draws_);
  ranges_.reserve(n);
  for (auto* values : {&log_p_, &log_q_, &f_, &score_weights_}) values->assign(n, 0.0);
  std::size_t width = 0;
  for (const Factor& factor : model_->factors) width += static_cast<std::size_t>(factor.draw->size);
  cotangents_.assign(n * std::max<std::size_t>(1, width), 0.0);
  if (options_.score && options_.baseline == Baseline::optimal)
    scores_.assign(n * static_cast<std::size_t>(n_params), 0.0);
}

// With what factor a term is seeded in the first sweep: model terms always, entropies where they stand for the
// gradient of the entropy, log q where the landing is stuck, and with a bound.
double ModelObjective::weight_of(const Term& term) const {
  if (term.factor < 0) return sign_of(term.kind);
  const Factor& factor = model_->factors[static_cast<std::size_t>(term.factor)];
  if (term.kind == TermKind::score || factor.by_formula) return 0.0;
  if (options_.bound) return term.kind == TermKind::log_q ? -1.0 : 0.0;
  const Entropy entropy = factor.entropy;
  if (term.kind == TermKind::entropy) {
    const bool instead_of_log_q = !options_.score && entropy == Entropy::monte_carlo;
    return entropy == Entropy::closed_form || instead_of_log_q ? 1.0 : 0.0;
  }
  return !options_.score && entropy == Entropy::sticking ? -1.0 : 0.0;
}

// The sign of a term in the ELBO's value; 0 where another stands for it: log q or the entropy's formula, or both where
// the factor's divergence is a term of its own.
double ModelObjective::sign_in_value(const Term& term) const {
  if (term.factor < 0) return sign_of(term.kind);
  const Factor& factor = model_->factors[static_cast<std::size_t>(term.factor)];
  if (term.kind == TermKind::score) return 0.0;
  const bool formula = factor.entropy == Entropy::closed_form && !options_.bound;
  if (factor.by_formula || (term.kind == TermKind::entropy) != formula) return 0.0;
  return sign_of(term.kind);
}

Evaluation ModelObjective::evaluate(ConstSpan params, ConstMatrix noise, Team& team) {
  model_->program.forward(params, noise, team);
  std::fill(log_p_.begin(), log_p_.end(), 0.0);
  std::fill(log_q_.begin(), log_q_.end(), 0.0);
  for (const Term& term : model_->terms) {
    const bool of_model = term.kind == TermKind::likelihood || term.kind == TermKind::prior;
    if (!of_model && term.kind != TermKind::log_q) continue;
    double* const total = of_model ? log_p_.data() : log_q_.data();
    for (Index s = 0; s < n_draws_; ++s) total[s] += *term.slot->at(s);
  }
  return {log_p_.data(), nullptr};
}

void ModelObjective::seed(const Term& term, double factor) noexcept {
  Slot& slot = *term.slot;
  if (!slot.per_draw) {
    double total = 0.0;  // 1, but for a bound
    for (const double w : weights_) total += w;
    *slot.adjoint += factor * (term.kind == TermKind::penalty ? 1.0 : total);
    return;
  }
  for (Index s = 0; s < n_draws_; ++s) *slot.adjoint_at(s) += factor * weights_[s];
}

// Gives the accepted draws the weights of another objective than their mean; returns the loss.
double ModelObjective::apply_bound() {
  std::vector<double>& accepted = log_ratio_;
  accepted.clear();
  for (Index s = 0; s < n_draws_; ++s) {
    if (weights_[s] > 0.0) accepted.push_back(log_p_[s] - log_q_[s]);
  }
  std::vector<double>& weights = f_;
  const double loss = options_.bound(accepted, {weights.data(), accepted.size()});
  std::size_t next = 0;
  for (Index s = 0; s < n_draws_; ++s) bound_weights_[s] = weights_[s] > 0.0 ? weights[next++] : 0.0;
  weights_ = bound_weights_;
  return loss;
}

Estimate ModelObjective::add_gradient(ConstSpan weights, const Noise& draws, Span grad, Team& team) {
  weights_ = weights;
  ranges_.clear();
  for (Index s = 0; s < n_draws_; ++s) {
    if (weights[s] == 0.0) continue;
    if (!ranges_.empty() && ranges_.back().end == s) {
      ++ranges_.back().end;
    } else {
      ranges_.push_back({s, s + 1});
    }
  }
  if (options_.bound) {
    const Estimate parts = estimate(draws);
    Estimate out = parts;
    out.elbo = -apply_bound() - parts.penalty;
    add_pathwise(grad, team);
    return out;
  }
  add_pathwise(any_adaptive_ ? Span{adaptive_.cfe} : grad, team);
  if (any_adaptive_) add_adaptive(grad, team);
  if (options_.score) add_score(draws, grad, team);
  return estimate(draws);
}

// One sweep for all that a single one can give.
void ModelObjective::add_pathwise(Span grad, Team& team) {
  if (any_adaptive_) std::fill(grad.begin(), grad.end(), 0.0);
  model_->program.begin_sweep(base_plan_, grad);
  for (const Term& term : model_->terms) {
    const double factor = weight_of(term);
    if (factor != 0.0 && term.slot->active) seed(term, factor);
  }
  Program::backward(base_plan_, {ranges_, team, true, static_cast<bool>(options_.bound)});
}

bool ModelObjective::is_adaptive(const Factor& factor) noexcept {
  return !factor.by_formula && factor.entropy == Entropy::adaptive;
}

// Whether a term has its own part in the sweeps of an adaptive entropy. Ready-made families need no sweeps.
bool ModelObjective::swept_apart(const Term& term, TermKind kind) const {
  if (term.kind != kind) return false;
  const Factor& factor = model_->factors[static_cast<std::size_t>(term.factor)];
  return is_adaptive(factor) && factor.family == nullptr;
}

// cfe + c x with cfe = energy + entropy and x = path - entropy, see core/estimator/adaptive.hpp.
void ModelObjective::add_adaptive(Span grad, Team& team) {
  Adaptive& a = adaptive_;
  const auto n = static_cast<Index>(grad.size());
  // The draws' own cotangents of the model's terms are wanted by look_again().
  if (!std::isfinite(kernels().sum(n, a.cfe.data()))) {
    kernels().axpy(n, 1.0, a.cfe.data(), grad.data());
    return;
  }
  const auto run = [&](const SweepPlan& plan, TermKind kind, double factor, std::vector<double>& out) {
    model_->program.begin_sweep(plan, out);
    for (const Term& term : model_->terms) {
      if (swept_apart(term, kind) && term.slot->active) seed(term, factor);
    }
    Program::backward(plan, {ranges_, team, true, false});
  };
  std::fill(a.x.begin(), a.x.end(), 0.0);
  if (!path_plan_.nodes.empty()) run(path_plan_, TermKind::log_q, -1.0, a.x);
  if (!entropy_plan_.nodes.empty()) {
    std::fill(a.entropy.begin(), a.entropy.end(), 0.0);
    run(entropy_plan_, TermKind::entropy, 1.0, a.entropy);
    kernels().axpy(n, 1.0, a.entropy.data(), a.cfe.data());
    kernels().axpy(n, -1.0, a.entropy.data(), a.x.data());
  }
  for (const Factor& factor : model_->factors) {
    if (factor.family != nullptr && is_adaptive(factor)) add_adaptive_family(factor, team);
  }
  const double rate = std::max(1.0 - kDecay, 1.0 / (a.steps + 1.0));
  const double trusted = a.steps < kWarmUp ? 0.0 : 1.0;
  const double known = a.steps > 0.0 ? 1.0 : 0.0;
  team.for_range(n, 4096, [&](Index begin, Index end) {
    kernels().blend(end - begin, rate, trusted, known, a.cfe.data() + begin, a.x.data() + begin, a.mean.data() + begin,
                    a.covariance.data() + begin, a.variance.data() + begin, grad.data() + begin);
  });
  a.steps += 1.0;
}

// A ready-made family's share of cfe and x, straight from its noise.
void ModelObjective::add_adaptive_family(const Factor& factor, Team& team) noexcept {
  const FamilyDraw& draw = *factor.family;
  const Family& family = draw.family();
  const auto part = [&](std::vector<double>& all) {
    return Span{all}.subspan(static_cast<std::size_t>(factor.params_begin),
                             static_cast<std::size_t>(family.n_params()));
  };
  kernels().scale(n_draws_, draw.log_q_factor(), weights_.data(), f_.data());
  family.add_path(draw.standardised(0, n_draws_), f_, {scratch_.data(), n_draws_, family.dim()}, part(adaptive_.x),
                  team);
  family.add_entropy_gradient(draw.log_q_factor(), part(adaptive_.cfe));
  family.add_entropy_gradient(-draw.log_q_factor(), part(adaptive_.x));
}

// f_s of a factor, less its leave-one-out mean, times the draw's weight.
void ModelObjective::weigh_scores(int factor, const Noise& draws) {
  const auto index = static_cast<std::size_t>(factor);
  std::fill(f_.begin(), f_.end(), 0.0);
  for (const Term& term : model_->terms) {
    if (!term.slot->per_draw) continue;
    if (options_.markov_blankets && !term.depends[index]) continue;
    const double sign = sign_in_value(term);
    if (sign == 0.0) continue;
    for (Index s = 0; s < n_draws_; ++s) {
      if (weights_[s] > 0.0) f_[s] += sign * *term.slot->at(s);
    }
  }
  others_.clear(draws.n_groups());
  for (Index s = 0; s < n_draws_; ++s) {
    if (weights_[s] > 0.0) others_.add(draws.group(s), f_[s], 1.0);
  }
  for (Index s = 0; s < n_draws_; ++s) {
    score_weights_[s] = weights_[s] * (f_[s] - others_.mean_outside(draws.group(s), f_[s]));
  }
}

void ModelObjective::add_score(const Noise& draws, Span grad, Team& team) {
  for (std::size_t f = 0; f < model_->factors.size(); ++f) {
    const auto factor = static_cast<int>(f);
    weigh_scores(factor, draws);
    if (options_.baseline == Baseline::optimal) {
      optimal_scores(factor, draws, grad, team);
      continue;
    }
    model_->program.begin_sweep(score_plans_[f], grad);
    for (const Term& term : model_->terms) {
      if (term.kind != TermKind::score || term.factor != factor || !term.slot->active) continue;
      for (Index s = 0; s < n_draws_; ++s) *term.slot->adjoint_at(s) += score_weights_[s];
    }
    Program::backward(score_plans_[f], {ranges_, team, false, true});
  }
}

// The score of each draw by a sweep of its own, then the best coefficient for each parameter (maths.md 3.5).
void ModelObjective::optimal_scores(int factor, const Noise& draws, Span grad, Team& team) {
  const auto n = static_cast<Index>(grad.size());
  const auto index = static_cast<std::size_t>(factor);
  std::fill(scores_.begin(), scores_.end(), 0.0);
  auto& one = ranges_of_one_;
  for (Index s = 0; s < n_draws_; ++s) {
    if (weights_[s] == 0.0) continue;
    one[0] = {s, s + 1};
    model_->program.begin_sweep(score_plans_[index], {scores_.data() + s * n, grad.size()});
    for (const Term& term : model_->terms) {
      if (term.kind == TermKind::score && term.factor == factor && term.slot->active) *term.slot->adjoint_at(s) = 1.0;
    }
    Program::backward(score_plans_[index], {one, team, false, true});
  }
  for (Index i = 0; i < n; ++i) {
    others_.clear(draws.n_groups());
    for (Index s = 0; s < n_draws_; ++s) {
      const double score = scores_[s * n + i];
      if (weights_[s] > 0.0) others_.add(draws.group(s), f_[s], score * score);
    }
    for (Index s = 0; s < n_draws_; ++s) {
      if (weights_[s] == 0.0) continue;
      const double mean = f_[s] - score_weights_[s] / weights_[s];
      grad[i] += weights_[s] * (f_[s] - others_.mean_outside(draws.group(s), mean)) * scores_[s * n + i];
    }
  }
}

Estimate ModelObjective::estimate(const Noise& draws) const {
  Estimate out;
  const auto mean_of = [&](const Term& term) {
    if (!term.slot->per_draw) return *term.slot->value;
    return weighted_mean(weights_, [&](Index s) { return *term.slot->at(s); });
  };
  for (const Part& part : parts_) {
    const double mean = mean_of(*part.term);
    const TermKind kind = part.term->kind;
    if (kind == TermKind::likelihood) out.log_lik += mean;
    if (kind == TermKind::likelihood || kind == TermKind::prior) out.log_p += mean;
    if (kind == TermKind::log_q || kind == TermKind::entropy) out.entropy += part.sign * mean;
    if (kind == TermKind::kl) out.kl += mean;
    if (kind == TermKind::penalty) out.penalty += mean;
  }
  out.elbo = out.log_p + out.entropy - out.kl - out.penalty;
  const auto value = [&](Index s) {
    double total = 0.0;
    for (const Part& part : parts_) total += part.sign * *part.term->slot->at(s);
    return total;
  };
  out.std_error = error_of_mean(weights_, draws, out.elbo, value);
  return out;
}

Evaluation ModelObjective::look_again() {
  const auto width = gradient_size();
  for (Index s = 0; s < n_draws_; ++s) {
    Index at = 0;
    for (const Factor& factor : model_->factors) {
      const Slot& draw = *factor.draw;
      if (draw.adjoint != nullptr) std::copy_n(draw.adjoint_at(s), draw.size, cotangents_.data() + s * width + at);
      at += draw.size;
    }
  }
  return {log_p_.data(), cotangents_.data()};
}

Index ModelObjective::culprit(Index draw) const {
  for (std::size_t t = 0; t < model_->terms.size(); ++t) {
    if (!std::isfinite(*model_->terms[t].slot->at(draw))) return static_cast<Index>(t);
  }
  return -1;
}

std::string ModelObjective::term_name(Index term) const {
  return term < 0 ? std::string{} : " of '" + model_->terms[static_cast<std::size_t>(term)].name + "'";
}

std::string ModelObjective::coordinate_name(Index coordinate) const {
  for (const Factor& factor : model_->factors) {
    if (coordinate < factor.draw->size)
      return " in coordinate " + std::to_string(coordinate) + " of '" + factor.name + "'";
    coordinate -= factor.draw->size;
  }
  return {};
}

void ModelObjective::project(Span params) const noexcept {
  for (const Factor& factor : model_->factors) {
    if (factor.family == nullptr) continue;
    const Family& family = factor.family->family();
    family.project(
        params.subspan(static_cast<std::size_t>(factor.params_begin), static_cast<std::size_t>(family.n_params())));
  }
}

void ModelObjective::contract(double factor_of_scales, Span params) const noexcept {
  for (const Factor& factor : model_->factors) {
    if (factor.family == nullptr) continue;
    const Family& family = factor.family->family();
    family.contract(factor_of_scales, params.subspan(static_cast<std::size_t>(factor.params_begin),
                                                     static_cast<std::size_t>(family.n_params())));
  }
}

void ModelObjective::reset() {
  adaptive_.steps = 0.0;
  for (auto* values : {&adaptive_.mean, &adaptive_.covariance, &adaptive_.variance}) {
    std::fill(values->begin(), values->end(), 0.0);
  }
}

void ModelObjective::visit_state(StateVisitor& visitor) {
  if (!any_adaptive_) return;
  visitor.scalar("estimator/steps", adaptive_.steps);
  visitor.array("estimator/mean", adaptive_.mean);
  visitor.array("estimator/covariance", adaptive_.covariance);
  visitor.array("estimator/variance", adaptive_.variance);
}

}  // namespace klqp
