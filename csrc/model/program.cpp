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

Slot* Program::add_data(ConstSpan values, bool feedable) {
  Slot* const slot = add_slot(static_cast<Index>(values.size()), false, false, true);
  values_.back().assign(values.begin(), values.end());
  slot->value = values_.back().data();
  if (feedable) feedable_.push_back(slot);
  return slot;
}

Slot* Program::add_parameter(Index offset, Index size, bool frozen) {
  Slot* const slot = add_slot(size, false, !frozen, false);
  parameters_.push_back({slot, offset});
  n_params_ = std::max(n_params_, offset + size);
  return slot;
}

Slot* Program::add_noise(Index offset, Index size, bool uniform) {
  if (uniform) {
    if (offset % 2 != 0) throw ConfigError("uniform columns of the noise must begin at even ones");
    uniforms_.push_back({offset, offset + size + size % 2});
    merge_ranges(uniforms_);
  }
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

Slot* Program::add_draw(Index size, const std::vector<Slot*>& inputs) {
  Slot* const slot = add_output(size, inputs);
  slot->active = false;
  return slot;
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
  find_gathered();
}

// What reads a slot, if that is gathers only, perhaps after elementwise functions; empty otherwise.
std::vector<const Gather*> Program::gathers_of(const Slot* slot) const {
  std::vector<const Gather*> found;
  for (const auto& node : nodes_) {
    const auto& inputs = node->inputs();
    if (std::find(inputs.begin(), inputs.end(), slot) == inputs.end()) continue;
    if (const auto* const gather = dynamic_cast<const Gather*>(node.get())) {
      found.push_back(gather);
      continue;
    }
    const std::vector<const Gather*> behind =
        node->elementwise() ? gathers_of(&node->output()) : std::vector<const Gather*>{};
    if (behind.empty()) return {};
    found.insert(found.end(), behind.begin(), behind.end());
  }
  return found;
}

// Parameters of which a step reads some elements only: those whose index is data that may be set again.
void Program::find_gathered() {
  gathered_.clear();
  for (const Leaf& leaf : parameters_) {
    if (!leaf.slot->active) continue;
    const std::vector<const Gather*> gathers = gathers_of(leaf.slot);
    const bool changes = std::any_of(gathers.begin(), gathers.end(), [&](const Gather* gather) {
      return std::find(feedable_.begin(), feedable_.end(), gather->inputs()[1]) != feedable_.end();
    });
    if (changes) gathered_.emplace_back(leaf, gathers);
  }
  std::sort(gathered_.begin(), gathered_.end(),
            [](const auto& one, const auto& other) { return one.first.offset < other.first.offset; });
}

const Ranges* Program::touched(Index n) {
  if (gathered_.empty()) return nullptr;
  if (!touched_is_old_) return &touched_;
  touched_is_old_ = false;
  touched_.clear();
  for (const auto& [leaf, gathers] : gathered_) {
    for (const Gather* gather : gathers) {
      for (const Index at : gather->offsets()) {
        touched_.push_back({leaf.offset + at, leaf.offset + at + gather->width()});
      }
    }
  }
  Index at = 0;  // between the gathered parameters everything is reached
  for (const auto& [leaf, gathers] : gathered_) {
    if (leaf.offset > at) touched_.push_back({at, leaf.offset});
    at = leaf.offset + leaf.slot->size;
  }
  if (n > at) touched_.push_back({at, n});
  merge_ranges(touched_);
  return &touched_;
}

// What depends on data alone, in the given nodes.
void Program::refresh(const std::vector<Node*>& nodes) {
  Team serial(1);
  touched_is_old_ = true;
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

SweepPlan Program::plan(const std::vector<Slot*>& seeds, const std::vector<Slot*>& stops) const {
  const std::unordered_set<const Slot*> stopped(stops.begin(), stops.end());
  // Slots from which a way leads to parameters or inputs.
  std::unordered_set<const Slot*> leading, outputs;
  for (const auto& node : nodes_) {
    bool leads = false;
    for (const Slot* output : node->outputs()) outputs.insert(output);
    for (const Slot* input : node->inputs()) {
      leads |= input->active && (leading.contains(input) || !outputs.contains(input));
    }
    for (const Slot* output : node->outputs()) {
      if (leads && !stopped.contains(output)) leading.insert(output);
    }
  }
  SweepPlan plan;
  std::unordered_set<const Slot*> reached, used, parameters;
  for (const Leaf& leaf : parameters_) parameters.insert(leaf.slot);
  const auto is_first = [&](Slot* slot) {
    const bool first = slot->active && used.insert(slot).second;
    if (first) plan.slots.push_back(slot);
    return first;
  };
  const auto clear = [&](Slot* slot) {
    if (is_first(slot) && !parameters.contains(slot)) plan.cleared.push_back(slot);
  };
  const auto reach = [&](const Slot* slot) {
    if (slot->active && (leading.contains(slot) || !outputs.contains(slot))) reached.insert(slot);
  };
  for (Slot* seed : seeds) {
    clear(seed);
    reach(seed);
  }
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    const auto ends = (*node)->outputs();
    if (std::none_of(ends.begin(), ends.end(), [&](const Slot* slot) { return reached.contains(slot); })) continue;
    const auto& inputs = (*node)->inputs();
    unsigned sets = 0;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      Slot* const x = inputs[k];
      const bool can_set = k < 32 && ((*node)->may_set() >> k & 1u) != 0 && !parameters.contains(x) &&
                           std::count(inputs.begin(), inputs.end(), x) == 1;
      if (!can_set) {
        clear(x);
      } else if (is_first(x)) {
        sets |= 1u << k;
      }
      reach(x);
    }
    for (Slot* end : ends) clear(end);
    plan.nodes.push_back(node->get());
    plan.sets.push_back(sets);
  }
  return plan;
}

void Program::begin_sweep(const SweepPlan& plan, Span grad) noexcept {
  for (const Leaf& leaf : parameters_) {
    leaf.slot->adjoint = leaf.slot->active ? grad.data() + leaf.offset : nullptr;
  }
  for (Slot* slot : plan.cleared) std::fill_n(slot->adjoint, slot->rows(n_draws_) * slot->size, 0.0);
}

bool Program::native() const noexcept {
  return std::all_of(nodes_.begin(), nodes_.end(), [](const auto& node) { return node->native(); });
}

std::string Program::explain(Index draw) {
  for (const auto& node : nodes_) {
    if (std::string said = node->explain(node->output().per_draw ? draw : 0); !said.empty()) return said;
  }
  return {};
}

Index Program::work_per_step() const noexcept {
  Index work = 0;
  for (const Node* node : moving_) work += node->work(n_draws_);
  return work;
}

}  // namespace klqp
