"""Derives the polynomials of special.inl and noise.inl: prints coefficients.inl.

Each fit interpolates the exact function at Chebyshev nodes in 60 digits, which is within a small
factor of the minimax polynomial, and is then rounded to double. Run it from here:

    python coefficients.py > coefficients.inl
"""

from mpmath import cos, matrix, mp, mpf, pi

mp.dps = 60

HEADER = """\
// Coefficients of the fits in special.inl, gamma.inl, noise.inl and densities/von_mises.inl, lowest order first.
// Printed by coefficients.py, which states the fitted functions; change them there.
#pragma once

namespace klqp {
namespace {
"""


def nodes(low, high, count):
    """Chebyshev nodes of [low, high]; none of them is an end point."""
    middle, half = (mpf(low) + mpf(high)) / 2, (mpf(high) - mpf(low)) / 2
    return [middle + half * cos(pi * (2 * k + 1) / (2 * count)) for k in range(count)]


def polynomial(function, low, high, degree):
    """Coefficients of the interpolating polynomial, lowest order first."""
    points = nodes(low, high, degree + 1)
    rows = matrix([[x**j for j in range(degree + 1)] for x in points])
    return list(mp.lu_solve(rows, matrix([function(x) for x in points])))


def rational(function, low, high, degree, crowd):
    """Interpolate by P / Q with Q(0) = 1 and both of the same degree.

    The nodes are Chebyshev's in log(x + crowd): they crowd at the low end, where it bends.
    """
    ends = [mp.log(low + crowd), mp.log(high + crowd)]
    points = [mp.exp(t) - crowd for t in nodes(*ends, 2 * degree + 1)]
    values = [function(x) for x in points]
    rows = matrix(
        [
            [x**j for j in range(degree + 1)] + [-y * x**j for j in range(1, degree + 1)]
            for x, y in zip(points, values, strict=True)
        ]
    )
    solution = list(mp.lu_solve(rows, matrix(values)))
    return solution[: degree + 1], [mpf(1), *solution[degree + 1 :]]


def emit(name, coefficients, comment):
    """Print one array."""
    print(f"\n// {comment}\nconstexpr double {name}[] = {{")
    print(",\n".join(f"    {float(c)!r}" for c in coefficients) + "};")


def norm_ppf(p):
    """Inverse of the standard normal CDF for p < 1/2, by Newton's method on log Phi."""
    p = mpf(p)
    log_p = mp.log(p)
    z = -mp.sqrt(-2 * log_p) if p < mpf("0.01") else mpf(-1)
    for _ in range(200):
        cdf = mp.erfc(-z / mp.sqrt(2)) / 2
        step = (mp.log(cdf) - log_p) * cdf / mp.npdf(z)
        z -= step
        if abs(step) < mpf(10) ** -50:
            break
    return z


def exponentials():
    """Fit exp and log on their reduced intervals."""

    def exp_tail(r):
        return (mp.exp(r) - 1 - r) / r**2 if abs(r) > mpf(10) ** -15 else mpf(1) / 2 + r / 6

    emit(
        "kExp",
        polynomial(exp_tail, "-0.3467", "0.3467", 10),
        "(exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2",
    )

    def atanh_tail(z):
        s = mp.sqrt(z)
        return 2 * (mp.atanh(s) / s - 1) / z

    emit(
        "kLog",
        polynomial(atanh_tail, 0, "0.02944", 6),
        "(log((1 + s) / (1 - s)) / s - 2) / z in z = s^2, |log((1 + s) / (1 - s))| <= log(2) / 2",
    )
    emit(
        "kLogUnit",
        polynomial(atanh_tail, 0, mpf(1) / 9, 9),
        "the same for 0 <= log((1 + s) / (1 - s)) <= log(2)",
    )


def turns():
    """Fit sine and cosine of a part of a turn."""
    quarter = mpf(1) / 64
    emit(
        "kSinTurn",
        polynomial(lambda w: mp.sin(2 * pi * mp.sqrt(w)) / mp.sqrt(w), 0, quarter, 6),
        "sin(2 pi u) / u in w = u^2, for |u| <= 1/8",
    )
    emit(
        "kCosTurn",
        polynomial(lambda w: (mp.cos(2 * pi * mp.sqrt(w)) - 1) / w, 0, quarter, 6),
        "(cos(2 pi u) - 1) / w in w = u^2, for |u| <= 1/8",
    )


def normal_quantile():
    """Fit the three pieces of norm_ppf."""
    centre = mpf("0.425")

    def central(w):
        q = mp.sqrt(centre**2 - w)
        if q < mpf(10) ** -20:
            return mp.sqrt(2 * pi)
        return -norm_ppf(mpf(1) / 2 - q) / q

    def tail(r):
        return -norm_ppf(mp.exp(-(r**2)))

    pieces = [
        ("Centre", central, 0, centre**2, 0, "0.07", "z / q in w = 0.425^2 - q^2, q = p - 1/2"),
        ("Near", tail, "1.58", 5, "1.6", "1.6", "-z in r - 1.6, r = sqrt(-log p), r <= 5"),
        ("Far", tail, 5, "27.4", 5, 5, "-z in r - 5, r = sqrt(-log p), 5 <= r"),
    ]
    for name, function, low, high, shift, crowd, comment in pieces:
        origin = mpf(shift)

        def moved(x, f=function, origin=origin):
            return f(x + origin)

        top, bottom = rational(moved, mpf(low) - origin, mpf(high) - origin, 7, mpf(crowd))
        emit(f"kPpf{name}Top", top, comment)
        emit(f"kPpf{name}Bottom", bottom, f"its denominator ({name.lower()})")


def gamma_functions():
    """Fit the logarithm of the gamma function and its first two derivatives."""
    emit(
        "kLgamma",
        polynomial(lambda t: mp.loggamma(2 + t) / t, "-0.5", "0.5", 19),
        "log Gamma(2 + t) / t for |t| <= 1/2",
    )

    def stirling(w):
        x = 1 / mp.sqrt(w)
        return x * (mp.loggamma(x) - (x - mpf(1) / 2) * mp.log(x) + x - mp.log(2 * pi) / 2)

    emit(
        "kStirling",
        polynomial(stirling, 0, mpf(1) / 64, 7),
        "x (log Gamma(x) - (x - 1/2) log x + x - log(2 pi) / 2) in w = 1 / x^2, x >= 8",
    )
    root = mp.findroot(mp.digamma, mpf("1.4616321449683623"))
    high = mpf(float(root))
    print("\n// The root of digamma in two parts.")
    print(f"constexpr double kDigammaRootHigh = {float(high)!r};")
    print(f"constexpr double kDigammaRootLow = {float(root - high)!r};")
    emit(
        "kDigamma",
        polynomial(lambda t: mp.digamma(t + 1.5) / (t + 1.5 - root), "-0.5", "0.5", 22),
        "digamma(x) / (x - root) in t = x - 3/2 for 1 <= x <= 2",
    )

    def asymptotic(w):
        x = 1 / mp.sqrt(w)
        return (mp.log(x) - 1 / (2 * x) - mp.digamma(x)) / w

    emit(
        "kDigammaTail",
        polynomial(asymptotic, 0, mpf(1) / 64, 7),
        "(log x - 1 / (2 x) - digamma(x)) / w in w = 1 / x^2, x >= 8",
    )

    def second(w):
        x = 1 / mp.sqrt(w)
        return x * (x**2 * mp.psi(1, x) - x - mpf(1) / 2)

    emit(
        "kTrigammaTail",
        polynomial(second, 0, mpf(1) / 16, 10),
        "x (x^2 trigamma(x) - x - 1/2) in w = 1 / x^2, x >= 4",
    )


def bessel_functions():
    """Fit the modified Bessel functions of orders 0 and 1, for the von Mises density."""

    def order0(w):
        return (mp.besseli(0, 2 * mp.sqrt(w)) - 1) / w if w > mpf(10) ** -20 else 1 + w / 4

    def order1(w):
        return mp.besseli(1, 2 * mp.sqrt(w)) / mp.sqrt(w) if w > mpf(10) ** -20 else 1 + w / 2

    def log_tail(v):
        return (mp.log(mp.besseli(0, 1 / v)) - 1 / v + mp.log(2 * pi / v) / 2) / v

    def gap_tail(v):
        return (1 - mp.besseli(1, 1 / v) / mp.besseli(0, 1 / v)) / v

    far = mpf(1) / 16
    emit("kBessel0", polynomial(order0, 0, 64, 22), "(I0(k) - 1) / w in w = k^2 / 4, k <= 16")
    emit("kBessel1", polynomial(order1, 0, 64, 22), "2 I1(k) / k in w = k^2 / 4, k <= 16")
    emit("kBesselLogTail", polynomial(log_tail, 0, far, 12), "k log(exp(-k) I0(k) sqrt(2 pi k)) in v = 1 / k, k >= 16")
    emit("kBesselGapTail", polynomial(gap_tail, 0, far, 12), "k (1 - I1(k) / I0(k)) in v = 1 / k, k >= 16")


if __name__ == "__main__":
    print(HEADER, end="")
    exponentials()
    turns()
    normal_quantile()
    gamma_functions()
    bessel_functions()
    print("\n}  // namespace\n}  // namespace klqp")
