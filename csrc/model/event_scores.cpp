// Weights of the scores of a factor's events.
#include "model/event_scores.hpp"

#include <algorithm>

namespace klqp {
namespace {

constexpr Index kGrain = 4096;  // events of one chunk
constexpr Index kLong = 16;     // elements that are worth a call of a kernel

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

BlanketRuns::BlanketRuns(const Blanket& blanket) : n_blocks_(blanket.n_blocks()), blocks_(blanket.blocks) {
  const std::vector<Index>&block_of = blanket.block_of, &begin = blanket.begin, &blocks = blanket.blocks;
  const auto n = static_cast<Index>(block_of.size()), n_events = static_cast<Index>(begin.size()) - 1;
  for (Index j = 0; j < n; ++j) {
    if (block_of[j] < 0) continue;
    const bool goes_on = !elements_.empty() && elements_.back().end == j && elements_.back().block == block_of[j];
    if (goes_on) {
      ++elements_.back().end;
    } else {
      elements_.push_back({j, j + 1, block_of[j]});
    }
  }
  for (Index i = 0; i < n_events; ++i) {
    const Index first = begin[i], last = begin[i + 1];
    if (first == last) continue;
    const auto same = [&](const Events& run) {
      return run.end == i && std::equal(blocks.begin() + first, blocks.begin() + last, blocks.begin() + run.first,
                                        blocks.begin() + run.last);
    };
    if (!events_.empty() && same(events_.back())) {
      ++events_.back().end;
    } else {
      events_.push_back({i, i + 1, first, last});
    }
  }
  const auto own = [&](Index i) { return block_of[i] == i && begin[i] == i && blocks[i] == i; };
  bool all_own = n == n_events && static_cast<Index>(blocks.size()) == n;
  for (Index i = 0; all_own && i < n; ++i) all_own = own(i);
  if (!all_own) return;
  n_own_ = n;
  n_blocks_ = 1;
  elements_ = {};
  events_ = {};
  blocks_ = {};
}

void BlanketRuns::sum_blocks(const double* x, double* block_sums) const noexcept {
  std::fill_n(block_sums, n_blocks_, 0.0);
  for (const auto& [begin, end, block] : elements_) {
    if (end - begin >= kLong) {
      block_sums[block] += kernels().sum(end - begin, x + begin);
    } else {
      for (Index j = begin; j < end; ++j) block_sums[block] += x[j];
    }
  }
}

void BlanketRuns::add(double sign, const double* x, double* block_sums, double* f) const noexcept {
  if (n_own_ > 0) return kernels().axpy(n_own_, sign, x, f);
  sum_blocks(x, block_sums);
  for (const Events& run : events_) {
    double sum = 0.0;
    for (Index k = run.first; k < run.last; ++k) sum += block_sums[blocks_[k]];
    sum *= sign;
    for (Index i = run.begin; i < run.end; ++i) f[i] += sum;
  }
}

EventScores::EventScores(Slot* log_q, std::vector<BlanketTerm> terms, Baseline baseline, const Noise& draws)
    : log_q_(log_q), baseline_(baseline) {
  for (const BlanketTerm& term : terms) {
    term.blanket.check(n(), term.elements->size);
    if (term.blanket.everything()) {
      wholes_.push_back({term.elements, term.sign});
    } else {
      parts_.push_back({term.elements, term.sign, BlanketRuns(term.blanket)});
      most_blocks_ = std::max(most_blocks_, parts_.back().runs.n_blocks());
    }
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
  for (const Whole& term : wholes_) {
    common += term.sign * kernels().sum(term.elements->size, term.elements->at(draw));
  }
  std::fill_n(f, n(), common);
  for (const Part& term : parts_) {
    term.runs.add(term.sign, term.elements->at(draw), block_sums_.data() + draw * most_blocks_, f);
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
