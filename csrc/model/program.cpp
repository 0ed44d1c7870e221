// Building and running of programs.
#include "model/program.hpp"

#include <algorithm>
#include <unordered_set>

namespace klqp {

Slot* Program::add_slot(Index size, bool per_draw, bool active, bool fixed) {
  if (size < 1) throw ConfigError("an array of a program must have elements");
  n_draws_ = 0;  // has no room yet
  slots_.push_back({size, per_draw, active, fixed, nullptr, nullptr});
  values_.emplace_back();
  adjoints_.emplace_back();
  return &slots_.back();
}

Slot* Program::add_data(ConstSpan values) {
  Slot* const slot = add_slot(static_cast<Index>(values.size()), false, false, true);
  values_.back().assign(values.begin(), values.end());
  slot->value = values_.back().data();
  return slot;
}

Slot* Program::add_parameter(Index offset, Index size, bool frozen) {
  Slot* const slot = add_slot(size, false, !frozen, false);
  parameters_.push_back({slot, offset});
  n_params_ = std::max(n_params_, offset + size);
  return slot;
}

Slot* Program::add_noise(Index offset, Index size) {
  Slot* const slot = add_slot(size, true, false, false);
  noises_.push_back({slot, offset});
  noise_dim_ = std::max(noise_dim_, offset + size);
  return slot;
}

Slot* Program::add_input(Index size) { return add_slot(size, true, true, false); }

Slot* Program::add_output(Index size, const std::vector<Slot*>& inputs) {
  bool per_draw = false, active = false, fixed = true;
  for (const Slot* x : inputs) {
    per_draw |= x->per_draw;
    active |= x->active;
    fixed &= x->fixed;
  }
  return add_slot(size, per_draw, active, fixed);
}

void Program::allocate(Index n_draws) {
  n_draws_ = n_draws;
  std::unordered_set<const Slot*> lent;  // their values are parameters, or the noise itself
  for (const Leaf& leaf : parameters_) lent.insert(leaf.slot);
  noise_lent_ = noises_.size() == 1 && noises_[0].slot->size == noise_dim_;
  if (noise_lent_) lent.insert(noises_[0].slot);
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    const auto n = static_cast<std::size_t>(slot.rows(n_draws) * slot.size);
    if (!lent.contains(&slot)) {
      values_[i].resize(n);
      slot.value = values_[i].data();
    }
    const bool parameter = !slot.per_draw && lent.contains(&slot);
    if (slot.active && !parameter) {
      adjoints_[i].resize(n);
      slot.adjoint = adjoints_[i].data();
    }
  }
  moving_.clear();
  readers_.clear();
  std::vector<Node*> all;
  for (const auto& node : nodes_) {
    node->reserve(n_draws);
    all.push_back(node.get());
    if (!node->output().fixed) moving_.push_back(node.get());
  }
  refresh(all);
}

// What depends on data alone, in the given nodes.
void Program::refresh(const std::vector<Node*>& nodes) {
  Team serial(1);
  for (Node* node : nodes) {
    node->data_changed();
    if (node->output().fixed) node->forward(n_draws_, serial);
  }
}

// The nodes that read some data, or what depends on data alone and on these, in order.
const std::vector<Node*>& Program::readers(const Slot* data) {
  const auto [found, is_new] = readers_.try_emplace(data);
  if (is_new) {
    std::unordered_set<const Slot*> changed{data};
    for (const auto& node : nodes_) {
      const auto& inputs = node->inputs();
      if (std::none_of(inputs.begin(), inputs.end(), [&](const Slot* x) { return changed.contains(x); })) continue;
      found->second.push_back(node.get());
      for (const Slot* output : node->outputs()) {
        if (output->fixed) changed.insert(output);
      }
    }
  }
  return found->second;
}

void Program::set_data(Slot* slot, ConstSpan values) {
  if (!slot->fixed) throw ConfigError("only data can be set");
  if (static_cast<Index>(values.size()) != slot->size) {
    throw ConfigError("expected " + std::to_string(slot->size) + " numbers of data, got " +
                      std::to_string(values.size()));
  }
  before_.assign(slot->value, slot->value + slot->size);
  std::copy(values.begin(), values.end(), slot->value);
  if (n_draws_ == 0) return;
  const std::vector<Node*>& nodes = readers(slot);
  try {
    refresh(nodes);
  } catch (...) {
    std::copy(before_.begin(), before_.end(), slot->value);
    refresh(nodes);
    throw;
  }
}

void Program::forward(ConstSpan params, ConstMatrix noise, Team& team) {
  for (const Leaf& leaf : parameters_) leaf.slot->value = const_cast<double*>(params.data()) + leaf.offset;
  if (noise_lent_) {
    noises_[0].slot->value = const_cast<double*>(noise.data);
  } else {
    for (const Leaf& leaf : noises_) {
      for (Index s = 0; s < noise.rows; ++s) {
        std::copy_n(noise.row(s) + leaf.offset, leaf.slot->size, leaf.slot->at(s));
      }
    }
  }
  for (Node* node : moving_) node->forward(n_draws_, team);
}

SweepPlan Program::plan(const std::vector<Slot*>& seeds) const {
  SweepPlan plan;
  std::unordered_set<const Slot*> reached, parameters;
  for (const Leaf& leaf : parameters_) parameters.insert(leaf.slot);
  const auto reach = [&](Slot* slot) {
    const bool first = slot->active && reached.insert(slot).second;
    if (first && !parameters.contains(slot)) plan.slots.push_back(slot);
  };
  for (Slot* seed : seeds) reach(seed);
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    const auto outputs = (*node)->outputs();
    const auto is_reached = [&](const Slot* slot) { return reached.contains(slot); };
    if (std::none_of(outputs.begin(), outputs.end(), is_reached)) continue;
    const auto& inputs = (*node)->inputs();
    unsigned sets = 0;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      Slot* const x = inputs[k];
      const bool can_set = k < 32 && ((*node)->may_set() >> k & 1u) != 0 && x->active && !parameters.contains(x) &&
                           std::count(inputs.begin(), inputs.end(), x) == 1;
      if (can_set && reached.insert(x).second) {
        sets |= 1u << k;
      } else {
        reach(x);
      }
    }
    for (Slot* output : outputs) reach(output);
    plan.nodes.push_back(node->get());
    plan.sets.push_back(sets);
  }
  return plan;
}

void Program::begin_sweep(const SweepPlan& plan, Span grad) noexcept {
  for (const Leaf& leaf : parameters_) {
    leaf.slot->adjoint = leaf.slot->active ? grad.data() + leaf.offset : nullptr;
  }
  for (Slot* slot : plan.slots) std::fill_n(slot->adjoint, slot->rows(n_draws_) * slot->size, 0.0);
}

bool Program::native() const noexcept {
  return std::all_of(nodes_.begin(), nodes_.end(), [](const auto& node) { return node->native(); });
}

Index Program::work_per_step() const noexcept {
  Index work = 0;
  for (const Node* node : moving_) work += node->work(n_draws_);
  return work;
}

}  // namespace klqp
