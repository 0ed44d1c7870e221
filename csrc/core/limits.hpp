// Values that mark what is not a number, and what has no probability.
#pragma once

#include <limits>

namespace klqp {

inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

}  // namespace klqp
