// Feed: gives a run the data of one of many problems.
#pragma once

#include <functional>

#include "core/view.hpp"

namespace klqp {

// Made by the object that takes the data, for the data of all problems of a form, which it keeps alive.
struct Feed {
  std::function<void(Index problem)> give;  // may throw ConfigError; needs no GIL
};

}  // namespace klqp
