"""What a report says in words: the summary, what was not achieved, what to do next. Every sentence is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from scripts.overrides_file import repeated
from scripts.report.contents import Contents

WANTED_WITHIN_TEN = 80.0
ALLOWED_DROP = 1.5
FASTER = 0.75
"""Of the best network's latency: what to ask for next."""


def summary(contents: Contents) -> str:
    """Two or three sentences for a person who reads nothing else."""
    dense, best = contents.dense, contents.best
    first, *smaller = contents.limits_ms
    limits = ", ".join(f"{limit:.3f}" for limit in (first, *smaller))
    start = (
        f"The dense network takes {dense.measured_ms:.3f} ms for one picture on one thread and gets "
        f"{dense.test_accuracy:.2f} % of the test pictures right. The budget was {contents.budget}, "
        f"that is {limits} ms."
    )
    if best is None:
        return f"{start} No network that was found meets {'the largest' if smaller else 'it'} when measured."
    whole = (
        f"{start} {len(contents.feasible)} of {len(contents.winners)} networks that were fine-tuned meet "
        f"{'the largest' if smaller else 'it'} by "
        f"measurement, and {len(contents.pareto)} of them {'is' if len(contents.pareto) == 1 else 'are'} better than "
        f"every other one in validation accuracy or in latency. "
        f"The best one by validation (network {best.name}) takes {best.measured_ms:.3f} ms and gets "
        f"{best.test_accuracy:.2f} % "
        f"right: {best.dense_ms / best.measured_ms:.2f}× as fast as the dense network compiled in the same way, and "
        f"{best.onnxruntime_dense_ms / best.measured_ms:.2f}× as fast as ONNX Runtime on the dense network."
    )
    return " ".join([whole, *(_under(contents, limit) for limit in smaller)])


def _under(contents: Contents, limit_ms: float) -> str:
    best = contents.best_under(limit_ms)
    if best is None:
        return f"No network meets {limit_ms:.3f} ms when measured."
    return f"Under {limit_ms:.3f} ms it is network {best.name}: {best.measured_ms:.3f} ms, {best.test_accuracy:.2f} %."


def shortfalls(contents: Contents) -> list[str]:
    """What the run did not reach, one sentence each; empty when it reached everything."""
    return [
        *_winner_shortfalls(contents),
        *_search_shortfalls(contents),
        *_prediction_shortfalls(contents),
        *_kernel_shortfalls(contents),
    ]


def next_steps(contents: Contents, run_dir: Path) -> list[tuple[str, str]]:
    """(what for, command) pairs."""
    best = contents.best or contents.dense
    folder = run_dir / ("dense" if best is contents.dense else f"winners/{best.name}")
    faster = max(1, round(100 * FASTER * best.measured_ms / contents.dense.measured_ms))
    trials = contents.config.search.trials
    longer = [("search on for longer", repeated(run_dir, f"search.trials={2 * trials}", f"run_dir={run_dir}"))]
    return [
        ("run the best network from Python", f'compiled = load_compiled("{folder}"); logits = compiled(image)'),
        ("run it in any other runtime", f"{folder}/model.onnx"),
        *(longer if len(contents.trials) >= trials else []),
        ("ask for a faster one", repeated(run_dir, f"budget={faster}%", f"run_dir={run_dir}-{faster}")),
        ("compare with a baseline search", repeated(run_dir, "search=random", f"run_dir={run_dir}-random")),
        ("show it in this report", repeated(run_dir, f"run_dir={run_dir}", f"compare=[{run_dir}-random]")),
    ]


def _winner_shortfalls(contents: Contents) -> Iterator[str]:
    found, wanted = len(contents.pareto), contents.config.winners.pareto
    if found < wanted:
        yield (
            f"{f'Only {found}' if found else 'No'} {'networks' if found > 1 else 'network'} of the Pareto set "
            f"{'meet' if found > 1 else 'meets'} the budget by measurement; wanted: {wanted}."
        )
    for winner in contents.winners:
        if not winner.within_budget:
            over = 100 * (winner.measured_ms / winner.budget_ms - 1)
            yield f"Network {winner.name} was predicted within the budget and measured {over:.1f} % over it."
    best = contents.best
    if best is not None and best.dense_test_accuracy - best.test_accuracy > ALLOWED_DROP:
        drop = best.dense_test_accuracy - best.test_accuracy
        yield f"The best network is {drop:.2f} points below the dense one on test data; {ALLOWED_DROP} were allowed."
    slower = [winner.name for winner in contents.winners if winner.onnxruntime_ms < winner.measured_ms]
    if slower:
        yield f"ONNX Runtime runs these networks faster than the code generated here: {', '.join(slower)}."
    if contents.dense.onnxruntime_ms < contents.dense.measured_ms:
        ratio = contents.dense.measured_ms / contents.dense.onnxruntime_ms
        yield f"ONNX Runtime runs the dense network {ratio:.2f}× as fast as the code generated here."


def _search_shortfalls(contents: Contents) -> Iterator[str]:
    for other in contents.compared:
        count = min(len(contents.trials), len(other.trials))
        ours, theirs = (float(trials["accuracy"].head(count).max()) for trials in (contents.trials, other.trials))
        if ours <= theirs:
            yield (
                f"After {count} evaluations the search by {contents.sampler} had found {ours:.2f} %, and that by "
                f"{other.sampler} in {other.run_dir} {theirs:.2f} %."
            )


def _prediction_shortfalls(contents: Contents) -> Iterator[str]:
    within = contents.accuracy.set_index("op")["within_10"].get("all")
    if within is not None and within < WANTED_WITHIN_TEN:
        yield (
            f"The latency predictor is within 10 % on {within:.0f} % of the kernels that it never saw; "
            f"{WANTED_WITHIN_TEN:.0f} % were wanted."
        )
    rejected = contents.shortlist[~contents.shortlist["within_budget"].astype(bool)]
    if len(rejected):
        yield (
            f"{len(rejected)} of {len(contents.shortlist)} candidates that were predicted within the budget were over "
            "it, or too close to it, when measured, and were left out before fine-tuning."
        )
    correlation = contents.fine_tuning_rank_correlation
    if correlation is not None and correlation < 0.5:
        yield (
            f"The fast evaluation ranks the {len(contents.winners)} fine-tuned networks with a correlation of only "
            f"{correlation:.2f} to their accuracy after fine-tuning."
        )


def _kernel_shortfalls(contents: Contents) -> Iterator[str]:
    best = contents.best
    if best is None:
        return
    reasons = Counter(kernel.why for kernel in best.kernels if kernel.form == "dense" and kernel.why)
    for reason, count in sorted(reasons.items()):
        yield f"In network {best.name}, {count} pruned kernel{'s' * (count > 1)} ran in dense form: {reason}."
