// Draws of discrete variables by name.
#include "model/nodes/discrete_draws.hpp"

namespace klqp {

std::unique_ptr<Node> make_discrete_draw(const std::string& name, const NodeConfig& config, std::vector<Slot*> inputs,
                                         Slot* output) {
  if (name == "categorical" || name == "one_hot_categorical") {
    const CategoryDraw::Options options{config.integer("size"), config.integer("probs", 0) != 0, name != "categorical"};
    return std::make_unique<CategoryDraw>(options, std::move(inputs), output);
  }
  for (const DiscreteSampler& sampler : discrete_samplers()) {
    if (name == sampler.name) return std::make_unique<NumberDraw>(sampler, std::move(inputs), output);
  }
  throw ConfigError("unknown draw '" + name + "'");
}

}  // namespace klqp
