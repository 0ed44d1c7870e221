// Weights of the scores of a factor's events.
#include "model/event_scores.hpp"

#include <algorithm>
#include <utility>

namespace klqp {
namespace {

constexpr Index kGrain = 4096;  // events of one chunk

}  // namespace

Index Blanket::n_blocks() const {
  return block_of.empty() ? 1 : 1 + *std::max_element(block_of.begin(), block_of.end());
}

void Blanket::check(Index n_events, Index n) const {
  if (everything()) return;
  const Index most = n_blocks();
  const auto outside = [&](Index block) { return block < 0 || block >= most; };
  bool fits = static_cast<Index>(block_of.size()) == n && static_cast<Index>(begin.size()) == n_events + 1 &&
              begin.front() == 0 && begin.back() == static_cast<Index>(blocks.size()) &&
              std::is_sorted(begin.begin(), begin.end()) && std::none_of(blocks.begin(), blocks.end(), outside);
  fits = fits && std::none_of(block_of.begin(), block_of.end(), [](Index block) { return block < -1; });
  if (!fits) throw ConfigError("a term's blanket does not fit its elements and the factor's events");
}

EventScores::EventScores(Slot* log_q, std::vector<BlanketTerm> terms, Baseline baseline, const Noise& draws)
    : log_q_(log_q), terms_(std::move(terms)), baseline_(baseline) {
  for (const BlanketTerm& term : terms_) {
    term.blanket.check(n(), term.elements->size);
    most_blocks_ = std::max(most_blocks_, term.blanket.n_blocks());
  }
  const auto n_draws = static_cast<std::size_t>(draws.n_draws()), events = static_cast<std::size_t>(n());
  f_.assign(n_draws * events, 0.0);
  block_sums_.assign(n_draws * static_cast<std::size_t>(most_blocks_), 0.0);
  total_.assign(events, 0.0);
  if (baseline == Baseline::running) past_.assign(events, 0.0);
  if (baseline == Baseline::mean) {
    groups_.assign(static_cast<std::size_t>(draws.n_groups()) * events, 0.0);
    counts_.assign(static_cast<std::size_t>(draws.n_groups()), 0.0);
  }
}

void EventScores::collect(ConstSpan weights, Team& team) noexcept {
  team.for_range(static_cast<Index>(weights.size()), 1, [&](Index draw, Index) {
    if (weights[draw] > 0.0) collect_draw(draw);
  });
}

void EventScores::collect_draw(Index draw) noexcept {
  double* const f = f_.data() + draw * n();
  double common = 0.0;
  for (const BlanketTerm& term : terms_) {
    if (term.blanket.everything()) {
      common += term.sign * kernels().sum(term.elements->size, term.elements->at(draw));
    }
  }
  std::fill_n(f, n(), common);
  for (const BlanketTerm& term : terms_) {
    if (!term.blanket.everything()) add_term(term, draw, block_sums_.data() + draw * most_blocks_, f);
  }
}

void EventScores::add_term(const BlanketTerm& term, Index draw, double* block_sums, double* f) const noexcept {
  const Blanket& blanket = term.blanket;
  const double* const x = term.elements->at(draw);
  std::fill_n(block_sums, most_blocks_, 0.0);
  for (std::size_t j = 0; j < blanket.block_of.size(); ++j) {
    if (blanket.block_of[j] >= 0) block_sums[blanket.block_of[j]] += x[j];
  }
  for (Index i = 0; i < n(); ++i) {
    double sum = 0.0;
    for (Index k = blanket.begin[i]; k < blanket.begin[i + 1]; ++k) sum += block_sums[blanket.blocks[k]];
    f[i] += term.sign * sum;
  }
}

void EventScores::seed(ConstSpan weights, const Noise& draws, Team& team) noexcept {
  if (baseline_ == Baseline::running) return seed_running(weights, team);
  if (baseline_ == Baseline::none) return seed_plain(weights);
  seed_outside(weights, draws, team);
}

// With no accepted draw in another group the baseline is f itself, which drops the draw.
void EventScores::seed_outside(ConstSpan weights, const Noise& draws, Team& team) noexcept {
  const auto n_draws = static_cast<Index>(weights.size());
  std::fill(counts_.begin(), counts_.end(), 0.0);
  double count = 0.0;
  for (Index s = 0; s < n_draws; ++s) {
    if (weights[s] > 0.0) {
      counts_[draws.group(s)] += 1.0;
      count += 1.0;
    }
  }
  team.for_range(n(), kGrain, [&](Index begin, Index end) {
    std::fill(total_.begin() + begin, total_.begin() + end, 0.0);
    for (Index g = 0; g < draws.n_groups(); ++g) std::fill_n(groups_.data() + g * n() + begin, end - begin, 0.0);
    for (Index s = 0; s < n_draws; ++s) {
      if (weights[s] == 0.0) continue;
      const double* const f = f_.data() + s * n();
      double* const group = groups_.data() + draws.group(s) * n();
      for (Index i = begin; i < end; ++i) {
        group[i] += f[i];
        total_[i] += f[i];
      }
    }
    for (Index s = 0; s < n_draws; ++s) {
      const double rest = count - counts_[draws.group(s)];
      if (weights[s] == 0.0 || rest == 0.0) continue;
      const double *const f = f_.data() + s * n(), *const group = groups_.data() + draws.group(s) * n();
      double* const to = log_q_->adjoint_at(s);
      for (Index i = begin; i < end; ++i) to[i] += weights[s] * (f[i] - (total_[i] - group[i]) / rest);
    }
  });
}

void EventScores::seed_plain(ConstSpan weights) noexcept {
  for (std::size_t s = 0; s < weights.size(); ++s) {
    const auto draw = static_cast<Index>(s);
    if (weights[s] > 0.0) kernels().axpy(n(), weights[s], f_.data() + draw * n(), log_q_->adjoint_at(draw));
  }
}

// The first step only teaches the baseline.
void EventScores::seed_running(ConstSpan weights, Team& team) noexcept {
  const double rate = std::max(kRate, 1.0 / (steps_ + 1.0));
  team.for_range(n(), kGrain, [&](Index begin, Index end) {
    std::fill(total_.begin() + begin, total_.begin() + end, 0.0);
    for (std::size_t s = 0; s < weights.size(); ++s) {
      if (weights[s] == 0.0) continue;
      const double* const f = f_.data() + static_cast<Index>(s) * n();
      double* const to = log_q_->adjoint_at(static_cast<Index>(s));
      for (Index i = begin; i < end; ++i) {
        if (steps_ > 0.0) to[i] += weights[s] * (f[i] - past_[i]);
        total_[i] += weights[s] * f[i];
      }
    }
    for (Index i = begin; i < end; ++i) past_[i] += rate * (total_[i] - past_[i]);
  });
  steps_ += 1.0;
}

void EventScores::seed_raw(Index draw) noexcept {
  kernels().axpy(n(), 1.0, f_.data() + draw * n(), log_q_->adjoint_at(draw));
}

void EventScores::seed_ones(Index draw) noexcept {
  double* const to = log_q_->adjoint_at(draw);
  for (Index i = 0; i < n(); ++i) to[i] += 1.0;
}

void EventScores::reset() {
  steps_ = 0.0;
  std::fill(past_.begin(), past_.end(), 0.0);
}

void EventScores::visit_state(const std::string& name, StateVisitor& visitor) {
  if (baseline_ != Baseline::running) return;
  visitor.scalar("scores/" + name + "/steps", steps_);
  visitor.array("scores/" + name + "/past", past_);
}

}  // namespace klqp
