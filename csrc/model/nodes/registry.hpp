// The nodes by name, each made from its options, inputs and output.
#pragma once

#include <memory>

#include "core/registry.hpp"
#include "model/config.hpp"
#include "model/nodes/binary.hpp"
#include "model/nodes/drawn_gather.hpp"
#include "model/nodes/events/steps.hpp"
#include "model/nodes/expectation.hpp"
#include "model/nodes/gamma_draws.hpp"
#include "model/nodes/gather.hpp"
#include "model/nodes/hidden_markov.hpp"
#include "model/nodes/matmul.hpp"
#include "model/nodes/matrices.hpp"
#include "model/nodes/normal_mixture_draw.hpp"
#include "model/nodes/rbf.hpp"
#include "model/nodes/reduce.hpp"
#include "model/nodes/slice.hpp"
#include "model/nodes/unary.hpp"
#include "model/nodes/von_mises_draw.hpp"

namespace klqp {

struct NodeSpec {
  NodeConfig config;
  std::vector<Slot*> inputs;
  Slot* output;
};

using NodeMaker = std::unique_ptr<Node> (*)(NodeSpec);

template <BinaryOperation operation>
std::unique_ptr<Node> make_binary(NodeSpec spec) {
  return std::make_unique<Binary>(operation, std::move(spec.inputs), spec.output);
}

inline Axis read_axis(const NodeSpec& spec, bool reduces) {
  if (spec.inputs.size() != 1) throw ConfigError("an operation along an axis takes one input");
  const Axis axis{spec.config.integer("outer"), spec.config.integer("n"), spec.config.integer("inner")};
  const Index out = axis.outer * axis.inner * (reduces ? 1 : axis.n);
  const bool legal = axis.outer > 0 && axis.n > 0 && axis.inner > 0;
  if (!legal || axis.outer * axis.n * axis.inner != spec.inputs.at(0)->size || out != spec.output->size) {
    throw ConfigError("the axis does not fit the array");
  }
  return axis;
}

template <class T, bool reduces>
std::unique_ptr<Node> make_along_axis(NodeSpec spec) {
  const Axis axis = read_axis(spec, reduces);
  return std::make_unique<T>(axis, std::move(spec.inputs), spec.output);
}

template <InverseMap::Kind kind>
std::unique_ptr<Node> make_inverse(NodeSpec spec) {
  return std::make_unique<InverseMap>(kind, std::move(spec.inputs), spec.output);
}

inline constexpr Row<NodeMaker> kNodes[] = {
    {"add", make_binary<BinaryOperation::add>},
    {"subtract", make_binary<BinaryOperation::subtract>},
    {"multiply", make_binary<BinaryOperation::multiply>},
    {"divide", make_binary<BinaryOperation::divide>},
    {"xlogy", make_binary<BinaryOperation::xlogy>},
    {"xlog1py", make_binary<BinaryOperation::xlog1py>},
    {"sum", make_along_axis<Sum, true>},
    {"cumsum", make_along_axis<CumulativeSum, false>},
    {"logsumexp", make_along_axis<LogSumExp, true>},
    {"log_softmax", make_along_axis<LogSoftmax, false>},
    {"slice",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       return std::make_unique<Slice>(spec.config.integer("begin"), std::move(spec.inputs), spec.output);
     }},
    {"gather",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const Index width = spec.config.integer("width");
       const bool drawn = spec.inputs.size() == 2 && spec.inputs[1]->per_draw;
       if (drawn) return std::make_unique<DrawnGather>(width, std::move(spec.inputs), spec.output);
       return std::make_unique<Gather>(width, std::move(spec.inputs), spec.output);
     }},
    {"concatenate",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       return std::make_unique<Concatenate>(spec.config.integer("outer"), std::move(spec.inputs), spec.output);
     }},
    {"matmul",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const ProductShape shape{spec.config.integer("m"), spec.config.integer("k"), spec.config.integer("n")};
       return std::make_unique<MatMul>(shape, std::move(spec.inputs), spec.output);
     }},
    {"cholesky",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const NodeConfig& config = spec.config;
       return std::make_unique<Cholesky>(config.integer("n"), config.integer("size"), std::move(spec.inputs),
                                         spec.output);
     }},
    {"solve_triangular",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const NodeConfig& config = spec.config;
       return std::make_unique<SolveTriangular>(config.integer("n"), config.integer("size"), config.integer("cols"),
                                                config.integer("transposed", 0) != 0, std::move(spec.inputs),
                                                spec.output);
     }},
    {"tril_draw",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const NodeConfig& config = spec.config;
       return std::make_unique<TrilDraw>(config.integer("n"), config.integer("size"), std::move(spec.inputs),
                                         spec.output);
     }},
    {"log_gamma_draw",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       return std::make_unique<LogGammaDraw>(spec.config.integer("begin", 0), std::move(spec.inputs), spec.output);
     }},
    {"rbf",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const NodeConfig& config = spec.config;
       const Rbf::Shape shape{config.integer("n"), config.integer("m"), config.integer("d"),
                              config.integer("cross", 0) != 0, config.number("constant", 0.0)};
       return std::make_unique<Rbf>(shape, std::move(spec.inputs), spec.output);
     }},
    {"log_q_gate",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       return std::make_unique<LogQGate>(spec.config.integer("value") != 0, std::move(spec.inputs), spec.output);
     }},
    {"event_total",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const NodeConfig& config = spec.config;
       return std::make_unique<EventTotal>(config.integer("n"), config.integer("width"), config.integer("summed") != 0,
                                           std::move(spec.inputs), spec.output);
     }},
    {"log_mixture",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const NodeConfig& config = spec.config;
       const LogMixture::Options options{config.integer("probs") != 0, config.integer("stacked") != 0,
                                         config.integer("log_q", 0) != 0};
       return std::make_unique<LogMixture>(config.integer("n"), config.integer("size"), options, std::move(spec.inputs),
                                           spec.output);
     }},
    {"expectation",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       return std::make_unique<Expectation>(std::move(spec.inputs), spec.output);
     }},
    {"hidden_markov",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const NodeConfig& config = spec.config;
       const HiddenMarkov::Options options{config.integer("first_probs") != 0, config.integer("next_probs") != 0,
                                           config.integer("log_q", 0) != 0};
       return std::make_unique<HiddenMarkov>(config.integer("size"), config.integer_list("lengths"), options,
                                             std::move(spec.inputs), spec.output);
     }},
    {"von_mises_draw",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       return std::make_unique<VonMisesDraw>(std::move(spec.inputs), spec.output);
     }},
    {"normal_mixture_draw",
     [](NodeSpec spec) -> std::unique_ptr<Node> {
       const NodeConfig& config = spec.config;
       return std::make_unique<NormalMixtureDraw>(config.integer("size"), config.integer("probs", 0) != 0,
                                                  std::move(spec.inputs), spec.output);
     }},
    {"inverse_exp", make_inverse<InverseMap::Kind::exp>},
    {"inverse_softplus", make_inverse<InverseMap::Kind::softplus>},
    {"inverse_sigmoid", make_inverse<InverseMap::Kind::sigmoid>},
    {"inverse_affine", make_inverse<InverseMap::Kind::affine>},
};

// All names, elementwise functions included.
inline std::vector<std::string> node_names() {
  std::vector<std::string> names = row_names(kNodes);
  for (const UnaryFunction& function : kUnaryFunctions) names.emplace_back(function.name);
  return names;
}

inline std::unique_ptr<Node> make_node(const std::string& name, NodeSpec spec) {
  for (const UnaryFunction& function : kUnaryFunctions) {
    if (name != function.name) continue;
    const double constant = spec.config.number("constant", 0.0);
    return std::make_unique<Unary>(function, constant, std::move(spec.inputs), spec.output);
  }
  return find_row(kNodes, "node", name)(std::move(spec));
}

}  // namespace klqp
