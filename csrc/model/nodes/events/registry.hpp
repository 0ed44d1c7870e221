// The laws of events by name, each made from its sizes.
#pragma once

#include <memory>

#include "core/registry.hpp"
#include "model/config.hpp"
#include "model/nodes/events/categories.hpp"
#include "model/nodes/events/dirichlet.hpp"
#include "model/nodes/events/matrices.hpp"
#include "model/nodes/events/normal.hpp"
#include "model/nodes/events/ordered_logistic.hpp"
#include "model/nodes/events/point_mass.hpp"
#include "model/nodes/events/relaxed.hpp"

namespace klqp {

using LawMaker = std::unique_ptr<Law> (*)(const NodeConfig&);

template <class T>
std::unique_ptr<Law> make_law_of_size(const NodeConfig& config) {
  return std::make_unique<T>(config.integer("size"));
}

inline constexpr Row<LawMaker> kLaws[] = {
    {"dirichlet", make_law_of_size<DirichletLaw>},
    {"categorical",
     [](const NodeConfig& config) -> std::unique_ptr<Law> {
       return std::make_unique<CategoricalLaw>(config.integer("size"), config.integer("probs", 0) != 0);
     }},
    {"one_hot_categorical",
     [](const NodeConfig& config) -> std::unique_ptr<Law> {
       return std::make_unique<CountsLaw>(config.integer("size"), config.integer("probs", 0) != 0, true);
     }},
    {"multinomial",
     [](const NodeConfig& config) -> std::unique_ptr<Law> {
       return std::make_unique<CountsLaw>(config.integer("size"), config.integer("probs", 0) != 0, false);
     }},
    {"relaxed_one_hot_categorical",
     [](const NodeConfig& config) -> std::unique_ptr<Law> {
       return std::make_unique<RelaxedOneHotLaw>(config.integer("size"), config.integer("probs", 0) != 0);
     }},
    {"ordered_logistic", make_law_of_size<OrderedLogisticLaw>},
    {"mvn_tril", make_law_of_size<NormalTrilLaw>},
    {"mvn_low_rank",
     [](const NodeConfig& config) -> std::unique_ptr<Law> {
       return std::make_unique<NormalLowRankLaw>(config.integer("size"), config.integer("rank"));
     }},
    {"lkj_cholesky", make_law_of_size<LkjCholeskyLaw>},
    {"wishart", make_law_of_size<WishartLaw>},
    {"point_mass", make_law_of_size<PointMassLaw>},
};

}  // namespace klqp
