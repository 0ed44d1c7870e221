"""Case 9: item response theory with hierarchical variances, 200,000 answers."""

import numpy as np

from bench.models.case import Case, Model, Twin

STUDENTS, QUESTIONS, ANSWERS = 50_000, 2_000, 200_000


def data():
    rng = np.random.default_rng(9)
    student = np.sort(rng.integers(0, STUDENTS, ANSWERS))
    question = rng.integers(0, QUESTIONS, ANSWERS)
    logits = (rng.normal(size=STUDENTS))[student] - (0.5 + 1.5 * rng.normal(size=QUESTIONS))[question]
    y = (rng.uniform(size=ANSWERS) < 1 / (1 + np.exp(-logits))).astype(float)
    return {"student": student, "question": question, "y": y}


def twin():
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as dist

    def model(data):
        overall = numpyro.sample("overall", dist.Normal(0.0, 1.0))
        log_var_students = numpyro.sample("log_var_students", dist.Normal(0.0, 1.0))
        log_var_questions = numpyro.sample("log_var_questions", dist.Normal(0.0, 1.0))
        sigma_students, sigma_questions = jnp.exp(0.5 * log_var_students), jnp.exp(0.5 * log_var_questions)
        students = numpyro.sample("students", dist.Normal(0.0, sigma_students).expand([STUDENTS]).to_event(1))
        questions = numpyro.sample("questions", dist.Normal(overall, sigma_questions).expand([QUESTIONS]).to_event(1))
        logits = students[data["student"]] - questions[data["question"]]
        numpyro.sample("y", dist.Bernoulli(logits=logits).to_event(1), obs=data["y"])

    latents = {
        "overall": (),
        "log_var_students": (),
        "log_var_questions": (),
        "students": (STUDENTS,),
        "questions": (QUESTIONS,),
    }
    return Twin(model, latents)


def model(data):
    import klqp

    overall = klqp.Normal(0.0, 1.0, name="overall")
    log_var_students = klqp.Normal(0.0, 1.0, name="log_var_students")
    log_var_questions = klqp.Normal(0.0, 1.0, name="log_var_questions")
    students = klqp.Normal(0.0, klqp.exp(0.5 * log_var_students), shape=STUDENTS, name="students")
    questions = klqp.Normal(overall, klqp.exp(0.5 * log_var_questions), shape=QUESTIONS, name="questions")
    y = klqp.Bernoulli(logits=students[data["student"]] - questions[data["question"]], name="y")
    return Model([overall, log_var_students, log_var_questions, students, questions], {y: data["y"]})


CASE = Case("9 IRT, 200,000 answers", 1, 20, 20, 0.05, data, twin, model, edward_ms=26.0, small=False)
