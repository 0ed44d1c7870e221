"""``python -m bench.latent CASE LIBRARY``: a fit's ELBO against steps and seconds, one JSON object a line."""

import argparse
import json
import os

from bench.latent.cases import CASES, mixture_optimum


def make(library, *args, **options):
    """Return a fit; its library is imported here."""
    if library == "pyro":
        from bench.latent.pyro_fit import PyroFit as Fit
    elif library == "klqp":
        from bench.latent.klqp_fit import KlqpFit as Fit
    else:
        from bench.latent.numpyro_fit import NumPyroFit as Fit
    return Fit(*args, **options)


def set_threads(n):
    """Bound the threads of libraries that are not imported yet."""
    os.environ |= {"OMP_NUM_THREADS": str(n), "MKL_NUM_THREADS": str(n)}
    if hasattr(os, "sched_setaffinity"):  # XLA asks for nothing else
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n])


def main():
    parser = argparse.ArgumentParser(prog="bench.latent", description=__doc__)
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("library", choices=["klqp", "numpyro", "pyro"])
    baselines = ["average", "network", "mean", "optimal", "running", "none"]  # Pyro's two, and klqp's
    parser.add_argument("--baseline", choices=baselines)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=500, help="steps between estimates of the ELBO")
    parser.add_argument("--rounds", type=int, default=20, help="of S draws each, for an estimate")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    set_threads(args.threads)
    if args.case == "mixture":
        print(json.dumps({"case": args.case, "library": "coordinate ascent", "elbo": round(mixture_optimum(), 4)}))
    fit = make(args.library, args.case, args.baseline, args.seed, args.dtype)
    who = {"case": args.case, "library": args.library, "baseline": args.baseline, "dtype": args.dtype}
    seconds, times = 0.0, []  # times: clock and processors
    for step in range(0, args.steps + 1, args.every):
        if step:
            times.append(fit.run(args.every))
            seconds += times[-1][0]
        elbo, std_error = fit.elbo(args.rounds)
        line = {"step": step, "seconds": round(seconds, 3), "elbo": round(float(elbo), 4)}
        print(json.dumps(who | line | {"std_error": round(float(std_error), 4)}), flush=True)
    clock, cpu = (1e3 * min(t) / args.every for t in zip(*times, strict=True))
    took = {"ms_per_step": clock, "cpu_ms_per_step": cpu, "compile_seconds": fit.compile_seconds}
    print(json.dumps(who | {key: round(value, 3) for key, value in took.items()}), flush=True)


if __name__ == "__main__":
    main()
