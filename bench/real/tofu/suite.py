"""TOFU's suite (Maini et al. 2024, arXiv 2401.06121), with the names and definitions of open-unlearning.

The forget metrics read ``forgetNN_perturbed`` (not ``forgetNN``), membership compares it with ``holdoutNN``. Where
ours differ from the peer's code the metrics say how and why; `docs/metrics.md` has the list.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.assets.data_sets import DATA_SETS
from bench.assets.hub_tables import HubRow, read_rows
from bench.core.contracts import Metric, Suite
from bench.core.errors import Absent, UserError, unknown_name
from bench.core.types import Example, Probe
from bench.engines.measuring.judges import judge_label, load_judge
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import distances
from bench.metrics.judged import acc_forget, acc_recover, acc_retain
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.overall import field_memorisation, field_privacy
from bench.metrics.probability import (
    accuracy,
    exact_memorization,
    extraction_strength,
    normalised_probability,
    probability,
)
from bench.metrics.rouge import rouge_l
from bench.metrics.scores import about_people
from bench.metrics.truth import forget_quality, model_utility, truth_ratio
from bench.real.tofu.rows import with_author

JUDGE = "similarity"
"""The judge that needs no network (`bench.engines.measuring.judges`)."""
SPLITS = ("forget01", "forget05", "forget10")
NEW_TOKENS = 200
"""Longest answer that is generated."""
UNREAD = "paraphrased_question"
"""A published field that no metric of the suite reads, so that data may lack it."""


def configs_of_split(split: str) -> dict[str, str]:
    """Side -> configuration, for a forget split."""
    return {
        "forget": f"{split}_perturbed",
        "retain": "retain_perturbed",
        "ra": "real_authors_perturbed",
        "wf": "world_facts_perturbed",
        "holdout": split.replace("forget", "holdout"),
    }


def tofu_suite(data: str, split: str = "forget10", judge: str = JUDGE) -> Suite:
    """The whole suite on the rows of ``data``; a configuration that isn't there makes its own metrics absent."""
    metrics_of = (*suite_metrics(judge), *EXACT)
    if split not in SPLITS:
        raise UserError("--split: " + unknown_name("split of TOFU", split, SPLITS))
    probes: list[Probe] = []
    counts: dict[str, int] = {}
    missing: dict[str, str] = {}
    for side, config in configs_of_split(split).items():
        try:
            table = DATA_SETS["tofu"].tables[config]
            fields = [field for field in table.fields if field != UNREAD]
            rows = read_rows(data, config, "train", fields, table.lists)
        except Absent as reason:
            missing[side] = str(reason)
            continue
        counts[config] = len(rows)
        probes += side_probes(side, [suite_example(config, number, row) for number, row in enumerate(rows)], judge)
    if "forget" in missing and "retain" in missing:
        raise UserError(f"'{data}' is no TOFU data: {missing['forget']}. Name a folder in TOFU's layout.")
    absent = {}
    for metric in metrics_of:
        if unread := [side for side in SIDES.get(metric.name, ()) if side in missing]:
            absent[metric.name] = missing[unread[0]]
    scored = tuple(metric for metric in metrics_of if metric.name not in absent)
    judged_by = f"{judge_label(load_judge(judge))}, not calibrated here"
    facts = {"benchmark": "TOFU", "split": split, "rows": counts, "judge": judged_by}
    return Suite(tuple(probes), scored, absent, facts)


def suite_example(config: str, number: int, row: HubRow) -> Example:
    """A question and its answer, with what else is known of them."""
    references = {"wrong": tuple(row.get("perturbed_answer") or ())}
    if "paraphrased_answer" in row:
        references["paraphrase"] = (row["paraphrased_answer"],)
    payload = {"prompt": row["question"], "answer": row["answer"], "template": "chat"}
    return Example(f"{config}-{number}", payload, {role: texts for role, texts in references.items() if texts})


def side_probes(side: str, examples: Sequence[Example], judge: str = JUDGE) -> list[Probe]:
    """The suite's probes of a side's rows."""
    rows = tuple(examples)
    if side == "holdout":
        return list(attack_probes(Probe("holdout", "logprob", rows)))
    roles = ("answer", "wrong") if side in ("ra", "wf") else ("answer", "paraphrase", "wrong")
    asked = Probe(side, "logprob", rows, roles)
    probes = [*attack_probes(asked)] if side == "forget" else [asked]
    probes.append(Probe(f"{side}_said", "generate", rows, max_new_tokens=NEW_TOKENS))
    if side in ("forget", "retain"):
        probes.append(Probe(f"{side}_judged", "judge", rows, options={"judge": judge, "said": f"{side}_said"}))
    if side != "ra":
        probes.append(Probe(f"kl_{'world' if side == 'wf' else side}", "divergence", rows))
    return probes


def side_metrics(side: str) -> tuple[Metric, ...]:
    """Probability, ROUGE and truth ratio on a side."""
    general, goal = side in ("ra", "wf"), "oracle" if side == "forget" else "up"
    metrics = [
        probability(f"{side}_Q_A_Prob", side, goal=goal),
        probability(f"{side}_Q_A_PERT_Prob", side, "wrong", goal="oracle"),
        rouge_l(f"{side}_Q_A_ROUGE", f"{side}_said", measure="recall", stemmer=True, goal=goal),
        truth_ratio(
            "forget_truth_ratio" if side == "forget" else f"{side}_Truth_Ratio",
            side,
            form="forget" if side == "forget" else "utility",
            right="answer" if general else "paraphrase",
            goal=goal,
        ),
    ]
    if general:
        metrics.append(normalised_probability(f"{side}_Q_A_Prob_normalised", side))
    else:
        metrics.append(probability(f"{side}_Q_A_PARA_Prob", side, "paraphrase", goal=goal))
    return tuple(metrics)


BY_SIDE = {side: side_metrics(side) for side in ("forget", "retain", "ra", "wf")}
PARTS = ("retain_Q_A_Prob", "ra_Q_A_Prob_normalised", "wf_Q_A_Prob_normalised") + tuple(
    f"{side}_{what}" for what in ("Q_A_ROUGE", "Truth_Ratio") for side in ("retain", "ra", "wf")
)
"""The nine of model utility."""
NAMED = {metric.name: metric for metrics in BY_SIDE.values() for metric in metrics}
UTILITY = model_utility("model_utility", [NAMED[name] for name in PARTS])
BROKEN = 0.1
"""Model utility below which a model counts as collapsed; TOFU's own models have .5 to .65, unlearned wrecks near 0."""
ATTACKS = attacks("forget", "holdout")
WITHOUT_JUDGE: tuple[Metric, ...] = (
    *NAMED.values(),
    forget_quality("forget_quality", "forget"),
    UTILITY,
    exact_memorization("exact_memorization", "forget"),
    extraction_strength("extraction_strength", "forget"),
    *ATTACKS,
    *distances("forget", "retain", "world"),
    collapsed("collapsed", "retain_said", "ra_said", "wf_said", utility=UTILITY, floor=BROKEN),
    field_memorisation(
        "field_memorisation",
        (
            extraction_strength("extraction_strength", "forget"),
            exact_memorization("exact_memorization", "forget"),
            NAMED["forget_Q_A_PARA_Prob"],
            truth_ratio("truth_share", "forget", form="share", goal="oracle"),
        ),
    ),
    field_privacy("field_privacy", "forget", "holdout"),
)


def suite_metrics(judge: str = JUDGE) -> tuple[Metric, ...]:
    """Every metric of the suite, the paper's three with the judge's name in their unit; intervals are over authors."""
    name = judge_label(load_judge(judge))
    found = (
        *WITHOUT_JUDGE,
        acc_forget("acc_forget", "forget_judged", name),
        acc_recover("acc_recover", "forget_judged", name),
        acc_retain("acc_retain", "retain_judged", name),
    )
    return tuple(about_people(metric, with_author) for metric in found)


EXACT: tuple[Metric, ...] = (
    accuracy("forget_accuracy", "forget", goal="oracle"),
    accuracy("retain_accuracy", "retain", goal="up"),
    accuracy("world_accuracy", "wf", goal="up"),
)
"""Answers that are right to the letter, which whole sentences seldom are."""
FORGET_ALONE = (
    "forget_quality",
    "exact_memorization",
    "extraction_strength",
    "forget_accuracy",
    "acc_forget",
    "acc_recover",
    "field_memorisation",
)
SIDES: dict[str, tuple[str, ...]] = {
    **{metric.name: (side,) for side, metrics in BY_SIDE.items() for metric in metrics},
    **dict.fromkeys((*FORGET_ALONE, "kl_forget", "kl_forget_floors"), ("forget",)),
    **dict.fromkeys(("retain_accuracy", "acc_retain", "kl_retain", "kl_retain_floors"), ("retain",)),
    **dict.fromkeys(("world_accuracy", "kl_world", "kl_world_floors"), ("wf",)),
    **dict.fromkeys([*(metric.name for metric in ATTACKS), "field_privacy"], ("forget", "holdout")),
    "model_utility": ("retain", "ra", "wf"),
    "collapsed": ("retain", "ra", "wf"),
}
"""Metric -> the sides that it reads."""
HEADLINE = (
    "forget_Q_A_Prob",
    "forget_Q_A_ROUGE",
    "forget_quality",
    "retain_Q_A_Prob",
    "retain_Q_A_ROUGE",
    "model_utility",
    "extraction_strength",
    "mia_min_k",
    "privleak",
    "kl_forget",
    "kl_retain",
)
"""Columns of the leaderboard."""
