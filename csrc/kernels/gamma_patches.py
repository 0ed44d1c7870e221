"""Derives the polynomials of gamma_gradient.inl: prints gamma_patches.inl.

With z the quantile of a fixed probability of the Gamma(a) distribution, the fits are of

    H(a, z) = a dlog(z) / da = sum_k z^k / ((a + 1) ... (a + k)) (digamma(a + k + 1) - log z), k = 0, 1, ...

which follows from the series of the incomplete gamma function. A patch is a polynomial in two variables on a
rectangle: the Chebyshev interpolant in 60 digits or more, without the coefficients below a tolerance, rewritten in
powers of the variables scaled to [-1, 1] and rounded to double. Run it from here:

    python gamma_patches.py > gamma_patches.inl
"""

from functools import cache

from mpmath import cos, digamma, exp, inf, legendre, log, mp, mpf, pi

mp.dps = 60
TOLERANCE = mpf(10) ** -12

HEADER = """\
// Polynomials in two variables for gamma_gradient.inl. Printed by gamma_patches.py, which states the fitted functions;
// change them there.
// clang-format off
#pragma once

namespace klqp {
namespace {

// sum_jk c_jk t^j s^k with t = (x - t_middle) * t_inverse, s = (y - s_middle) * s_inverse in [-1, 1].
struct GammaPatch {
  double t_low, t_high, t_middle, t_inverse, s_middle, s_inverse;
  int rows;
  const signed char* lengths;   // of the rows, that of the highest power of t first
  const double* coefficients;  // row by row, each with the highest power of s first
};
"""


def series(a, z):
    """Return the sums of z^k / ((a + 1) ... (a + k)) times digamma(a + k + 1) - digamma(a + 1), and times 1."""
    term, shift, top, bottom, k = mpf(1), mpf(0), mpf(0), mpf(1), 0
    smallest = mpf(10) ** -(mp.dps + 2)
    while k == 0 or k <= z - a or term * shift > bottom * smallest:
        k += 1
        term *= z / (a + k)
        shift += 1 / (a + k)
        top += term * shift
        bottom += term
    return top, bottom


def h(a, z):
    """Return H(a, z)."""
    lost = max(mpf(0), z - a - a * log(z / a)) if z > a else mpf(0)  # digits that the upper tail cancels
    with mp.workdps(60 + int(lost / log(10))):
        top, bottom = series(a, z)
        return top + (digamma(a + 1) - log(z)) * bottom


def nodes(low, high, count):
    """Chebyshev nodes of [low, high]; none of them is an end point."""
    middle, half = (mpf(low) + mpf(high)) / 2, (mpf(high) - mpf(low)) / 2
    return [middle + half * cos(pi * (2 * k + 1) / (2 * count)) for k in range(count)]


def chebyshev(values):
    """Coefficients of the interpolant from values at the nodes."""
    n = len(values)
    return [
        (2 if j else 1) * sum(v * cos(pi * j * (2 * k + 1) / (2 * n)) for k, v in enumerate(values)) / mpf(n)
        for j in range(n)
    ]


@cache
def powers(j):
    """Coefficients of the Chebyshev polynomial of degree j, lowest order first."""
    if j < 2:
        return (1,) if j == 0 else (0, 1)
    doubled, older = (0, *(2 * c for c in powers(j - 1))), (*powers(j - 2), 0, 0)
    return tuple(a - b for a, b in zip(doubled, older, strict=True))


def monomials(coefficients):
    """Rewrite a table of Chebyshev coefficients in powers, without those below the tolerance."""
    out = [[mpf(0)] * len(row) for row in coefficients]
    for j, row in enumerate(coefficients):
        for k, c in enumerate(row):
            if abs(c) < TOLERANCE:
                continue
            for p, x in enumerate(powers(j)):
                for q, y in enumerate(powers(k)):
                    out[p][q] += c * x * y
    return out


def interpolate(function, t_range, t_count, s_range, s_count):
    """Chebyshev coefficients of a function of two variables, (t_count, s_count)."""
    s_nodes = nodes(*s_range, s_count)
    by_s = [chebyshev([function(t, s) for s in s_nodes]) for t in nodes(*t_range, t_count)]
    return [list(row) for row in zip(*(chebyshev(column) for column in zip(*by_s, strict=True)), strict=True)]


def emit(name, comment, function, t_range, t_count, s_range, s_count):
    """Fit and print one patch."""
    fitted = interpolate(function, t_range, t_count, s_range, s_count)
    rows = []
    for row in monomials(fitted):
        while row and row[-1] == 0:
            row.pop()
        rows.append(row)
    while not rows[-1]:
        rows.pop()
    for what, count, used in (("t", t_count, len(rows)), ("s", s_count, max(map(len, rows)))):
        if used >= count:
            raise RuntimeError(f"{name}: more nodes are needed in {what}")
    rows.reverse()
    low, high = (mpf(t) for t in t_range)
    s_low, s_high = (mpf(s) for s in s_range)
    scaling = [low, high, (low + high) / 2, 2 / (high - low), (s_low + s_high) / 2, 2 / (s_high - s_low)]
    print(f"\n// {comment}")
    print(f"constexpr signed char k{name}Lengths[] = {{{', '.join(str(len(row)) for row in rows)}}};")
    print(f"constexpr double k{name}Coefficients[] = {{")
    print(",\n".join(f"    {float(c)!r}" for row in rows for c in reversed(row)) + "};")
    numbers = ", ".join(repr(float(x)) for x in scaling)
    print(f"constexpr GammaPatch k{name} = {{{numbers}, {len(rows)}, k{name}Lengths, k{name}Coefficients}};")


def small_concentrations():
    """Fit the parts of H for a < 2: beside z = 0, where log z is kept apart, and above."""
    split, middle, halves = mpf("1.6"), mpf(1) / 2, mpf(1) / 3

    def with_digamma(z, s):
        top, bottom = series(1 / s - 1, z)
        return top + digamma(1 / s) * bottom

    def bottom(z, s):
        return series(1 / s - 1, z)[1]

    def upper(t, s):
        return h(1 / s - 1, exp(t))

    for name, s_range, end in (("Below1", (middle, 1), 12), ("Below2", (halves, middle), 14)):
        limit = name[-1]
        where = f"of z in [0, {split}] and s = 1 / (a + 1), a < {limit}"
        emit(f"{name}Part", f"H + log(z) times the next, {where}", with_digamma, (0, split), 18, s_range, 18)
        emit(f"{name}Log", f"sum_k z^k / ((a + 1) ... (a + k)), {where}", bottom, (0, split), 18, s_range, 18)
        where = f"of log z, z in [{split}, {end}], and s = 1 / (a + 1), a < {limit}"
        emit(f"{name}Upper", f"H {where}", upper, (log(split), log(end)), 22, s_range, 18)


def large_concentrations():
    """Fit H for a >= 2 where all but about 1e-4 of the draws are."""

    def scaled(t, s):
        return h(1 / s, exp(t) / s)

    for begin, end, low, high, t_count, s_count in (
        (2, 4, "-5.2", "1.85", 30, 12),
        (4, 8, "-3", "1.45", 24, 12),
        (8, 16, "-1.85", "1.1", 20, 10),
        (16, 64, "-1.2", "0.83", 18, 10),
        (64, inf, "-0.55", "0.45", 14, 8),
    ):
        where = f"{begin} <= a" + (f" < {end}" if end < inf else "")
        s_range = (1 / mpf(end), 1 / mpf(begin))
        emit(f"From{begin}", f"H of log(z / a) and s = 1 / a, {where}", scaled, (low, high), t_count, s_range, s_count)


def quadrature():
    """Print the rule of Gauss and Legendre on [0, 1]."""
    n = 32
    found = []
    for k in range(n):
        x = mp.findroot(lambda y: legendre(n, y), cos(pi * (mpf(k) + mpf("0.75")) / (n + mpf("0.5"))))
        slope = n * (legendre(n - 1, x) - x * legendre(n, x)) / (1 - x**2)
        found.append((x, 2 / ((1 - x**2) * slope**2)))
    for name, values in (("Nodes", [(1 - x) / 2 for x, _ in found]), ("Weights", [w / 2 for _, w in found])):
        print(f"\n// {name} of the rule of Gauss and Legendre on [0, 1].")
        print(f"constexpr double kTail{name}[] = {{")
        print(",\n".join(f"    {float(v)!r}" for v in values) + "};")


if __name__ == "__main__":
    print(HEADER, end="")
    small_concentrations()
    large_concentrations()
    quadrature()
    print("\n}  // namespace\n}  // namespace klqp")
