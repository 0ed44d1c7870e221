// Gradients and values of a model's ELBO.
#include "model/objective.hpp"

#include "core/estimator/means.hpp"

namespace klqp {
namespace {

// The sign with which a kind of term enters the ELBO, entropies and log q apart.
double sign_of(TermKind kind) {
  return kind == TermKind::kl || kind == TermKind::penalty || kind == TermKind::log_q ? -1.0 : 1.0;
}

}  // namespace

TermKind parse_term_kind(const std::string& name) {
  if (name == "likelihood") return TermKind::likelihood;
  if (name == "prior") return TermKind::prior;
  if (name == "log_q") return TermKind::log_q;
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
  if (options_.bound) {
    bound_weights_.assign(static_cast<std::size_t>(n_draws_), 0.0);
    log_ratio_.reserve(static_cast<std::size_t>(n_draws_));
  }
  model_->program.allocate(n_draws_);
  std::size_t width = 0;
  for (const Factor& factor : model_->factors) {
    width += static_cast<std::size_t>(factor.draw->size);
    any_adaptive_ |= !options_.bound && is_adaptive(factor);
    if (factor.scores != nullptr) add_scored(factor, draws);
  }
  std::vector<Slot*> seeds;
  for (const EventScores& scores : scores_) seeds.push_back(scores.log_q());
  const bool apart = options_.baseline == Baseline::optimal;
  if (apart && !scores_.empty()) {
    score_plan_ = model_->program.plan(seeds, stops_);
    seeds.clear();
    const auto n = static_cast<std::size_t>(n_draws_ * n_params_);
    for (auto* values : {&weighted_scores_, &plain_scores_}) values->assign(n, 0.0);
  }
  for (const Term& term : model_->terms) {
    if (weight_of(term) != 0.0 && term.slot->active) seeds.push_back(term.slot);
    if (const double sign = sign_in_value(term); sign != 0.0) parts_.push_back({&term, sign});
  }
  base_plan_ = model_->program.plan(seeds, stops_);
  for (Node* node : base_plan_.nodes) node->expect_backward();
  if (any_adaptive_) prepare_adaptive();
  const auto n = static_cast<std::size_t>(n_draws_);
  ranges_.reserve(n);
  for (auto* values : {&log_p_, &log_q_, &f_}) values->assign(n, 0.0);
  cotangents_.assign(n * std::max<std::size_t>(1, width), 0.0);
}

void ModelObjective::add_scored(const Factor& factor, const Noise& draws) {
  if (options_.bound) throw ConfigError("another objective than the ELBO needs pathwise gradients");
  require_baseline(options_.baseline, draws);
  stops_.push_back(factor.draw);
  if (!factor.scores->active) return;  // nothing of it is optimised
  std::vector<BlanketTerm> terms;
  for (const ScoredTerm& scored : factor.scored) {
    const double sign = sign_in_value(model_->terms.at(scored.term));
    if (sign != 0.0) terms.push_back({scored.elements, sign, scored.blanket});
  }
  scores_.emplace_back(factor.scores, std::move(terms), options_.baseline, draws);
}

void ModelObjective::prepare_adaptive() {
  Index most = 0;
  for (const Factor& factor : model_->factors) {
    if (factor.family != nullptr && is_adaptive(factor)) most = std::max(most, factor.family->family().dim());
  }
  scratch_.assign(static_cast<std::size_t>(n_draws_ * most), 0.0);
  path_plan_ = plan_for([&](const Term& term) { return swept_apart(term, TermKind::log_q); });
  entropy_plan_ = plan_for([&](const Term& term) { return swept_apart(term, TermKind::entropy); });
  for (auto* values : {&cfe_, &x_, &entropy_}) values->assign(static_cast<std::size_t>(n_params_), 0.0);
  blend_.resize(cfe_.size());
}

// With what factor a term is seeded in the first sweep: model terms always, entropies where they stand for the
// gradient of the entropy, log q where the landing is stuck, and with a bound.
double ModelObjective::weight_of(const Term& term) const {
  if (term.factor < 0) return sign_of(term.kind);
  const Factor& factor = model_->factors[static_cast<std::size_t>(term.factor)];
  if (factor.by_formula) return 0.0;
  if (options_.bound) return term.kind == TermKind::log_q ? -1.0 : 0.0;
  const bool pathwise = factor.scores == nullptr;
  if (term.kind == TermKind::entropy) {
    const bool instead_of_log_q = pathwise && factor.entropy == Entropy::monte_carlo;
    return factor.entropy == Entropy::closed_form || instead_of_log_q ? 1.0 : 0.0;
  }
  return pathwise && factor.entropy == Entropy::sticking ? -1.0 : 0.0;
}

// The sign of a term in the ELBO's value; 0 where another stands for it: log q or the entropy's formula, or both where
// the factor's divergence is a term of its own.
double ModelObjective::sign_in_value(const Term& term) const {
  if (term.factor < 0) return sign_of(term.kind);
  const Factor& factor = model_->factors[static_cast<std::size_t>(term.factor)];
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
    add_sweep(draws, grad, team);
    return out;
  }
  for (EventScores& scores : scores_) scores.collect(weights_, team);
  add_sweep(draws, any_adaptive_ ? Span{cfe_} : grad, team);
  if (any_adaptive_) add_adaptive(grad, team);
  if (options_.baseline == Baseline::optimal && !scores_.empty()) add_optimal_scores(draws, grad, team);
  return estimate(draws);
}

// One sweep for all that a single one can give.
void ModelObjective::add_sweep(const Noise& draws, Span grad, Team& team) {
  if (any_adaptive_) std::fill(grad.begin(), grad.end(), 0.0);
  model_->program.begin_sweep(base_plan_, grad);
  for (const Term& term : model_->terms) {
    const double factor = weight_of(term);
    if (factor != 0.0 && term.slot->active) seed(term, factor);
  }
  if (options_.baseline != Baseline::optimal) {
    for (EventScores& scores : scores_) scores.seed(weights_, draws, team);
  }
  Program::backward(base_plan_, {ranges_, team, true, static_cast<bool>(options_.bound)});
}

bool ModelObjective::is_adaptive(const Factor& factor) noexcept {
  return !factor.by_formula && factor.scores == nullptr && factor.entropy == Entropy::adaptive;
}

// Whether a term has its own part in the sweeps of an adaptive entropy. Ready-made families need no sweeps.
bool ModelObjective::swept_apart(const Term& term, TermKind kind) const {
  if (term.kind != kind) return false;
  const Factor& factor = model_->factors[static_cast<std::size_t>(term.factor)];
  return is_adaptive(factor) && factor.family == nullptr;
}

// cfe + c x with cfe = energy + entropy and x = path - entropy, see core/estimator/adaptive.hpp.
void ModelObjective::add_adaptive(Span grad, Team& team) {
  const auto n = static_cast<Index>(grad.size());
  // The draws' own cotangents of the model's terms are wanted by look_again().
  if (!std::isfinite(kernels().sum(n, cfe_.data()))) {
    kernels().axpy(n, 1.0, cfe_.data(), grad.data());
    return;
  }
  const auto run = [&](const SweepPlan& plan, TermKind kind, double factor, std::vector<double>& out) {
    model_->program.begin_sweep(plan, out);
    for (const Term& term : model_->terms) {
      if (swept_apart(term, kind) && term.slot->active) seed(term, factor);
    }
    Program::backward(plan, {ranges_, team, true, false});
  };
  std::fill(x_.begin(), x_.end(), 0.0);
  if (!path_plan_.nodes.empty()) run(path_plan_, TermKind::log_q, -1.0, x_);
  if (!entropy_plan_.nodes.empty()) {
    std::fill(entropy_.begin(), entropy_.end(), 0.0);
    run(entropy_plan_, TermKind::entropy, 1.0, entropy_);
    kernels().axpy(n, 1.0, entropy_.data(), cfe_.data());
    kernels().axpy(n, -1.0, entropy_.data(), x_.data());
  }
  for (const Factor& factor : model_->factors) {
    if (factor.family != nullptr && is_adaptive(factor)) add_adaptive_family(factor, team);
  }
  blend_.add(cfe_, x_, grad, team);
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
  family.add_path(draw.standardised(0, n_draws_), f_, {scratch_.data(), n_draws_, family.dim()}, part(x_), team);
  family.add_entropy_gradient(draw.log_q_factor(), part(cfe_));
  family.add_entropy_gradient(-draw.log_q_factor(), part(x_));
}

// The scores of one draw by a sweep of their own.
template <class Seed>
void ModelObjective::sweep_scores(Index draw, Span out, Team& team, const Seed& seed) {
  ranges_of_one_[0] = {draw, draw + 1};
  model_->program.begin_sweep(score_plan_, out);
  for (EventScores& scores : scores_) seed(scores);
  Program::backward(score_plan_, {ranges_of_one_, team, false, true});
}

// For each parameter, with h_s the draw's scores times f and g_s the scores alone: the mean of h_s - a g_s, where a is
// the least-squares coefficient of h on g over the other groups of draws (maths.md 3.5).
void ModelObjective::add_optimal_scores(const Noise& draws, Span grad, Team& team) {
  const auto n = static_cast<Index>(grad.size());
  std::fill(weighted_scores_.begin(), weighted_scores_.end(), 0.0);
  std::fill(plain_scores_.begin(), plain_scores_.end(), 0.0);
  for (Index s = 0; s < n_draws_; ++s) {
    if (weights_[s] == 0.0) continue;
    sweep_scores(s, {weighted_scores_.data() + s * n, grad.size()}, team,
                 [&](EventScores& scores) { scores.seed_raw(s); });
    sweep_scores(s, {plain_scores_.data() + s * n, grad.size()}, team,
                 [&](EventScores& scores) { scores.seed_ones(s); });
  }
  team.for_range(n, 1024, [&](Index begin, Index end) {
    thread_local LeaveOneOut others;
    for (Index i = begin; i < end; ++i) {
      others.clear(draws.n_groups());
      for (Index s = 0; s < n_draws_; ++s) {
        const double h = weighted_scores_[s * n + i], g = plain_scores_[s * n + i];
        if (weights_[s] > 0.0 && g != 0.0) others.add(draws.group(s), h / g, g * g);
      }
      for (Index s = 0; s < n_draws_; ++s) {
        const double h = weighted_scores_[s * n + i], g = plain_scores_[s * n + i];
        if (weights_[s] > 0.0) grad[i] += weights_[s] * (h - others.mean_outside(draws.group(s), 0.0) * g);
      }
    }
  });
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
  blend_.reset();
  for (EventScores& scores : scores_) scores.reset();
}

void ModelObjective::visit_state(StateVisitor& visitor) {
  if (any_adaptive_) blend_.visit_state(visitor);
  for (std::size_t i = 0; i < scores_.size(); ++i) scores_[i].visit_state(std::to_string(i), visitor);
}

}  // namespace klqp
