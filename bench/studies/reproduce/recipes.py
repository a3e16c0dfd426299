"""The recipes, one for each published table: models, checkpoints, methods, settings, and what had to be assumed.

Settings that a source states are taken from it; what it doesn't report stands under ``assumptions`` with our choice.
Steps are passes times rows over the rows of a step, rounded up, as the sources count in epochs.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

from bench.assets.data_sets import DATA_SETS
from bench.core.errors import UserError, unknown
from bench.studies.reproduce import published
from bench.studies.reproduce.published import PAPER, PEER, SPLITS, Table, ou_muse, ou_tofu
from bench.studies.reproduce.recipe import LAST, ORACLE, TARGET, Arm, Assumption, Column, Panel, Recipe

LLAMA_1B, LLAMA_1B_BASE = "llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B"
LLAMA_8B, LLAMA_8B_BASE = "llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B"
OLMO_1B, OLMO_7B = "olmo-2-1b", "olmo-2-7b"
OLMO_1B_REFERENCE = f"{OLMO_1B}@stage1-step1900000-tokens3985B"
OLMO_1B_PAST = {
    "3964B": "stage1-step1890000-tokens3964B",
    "3146B": "stage1-step1500000-tokens3146B",
    "2098B": "stage1-step1000000-tokens2098B",
    "1049B": "stage1-step500000-tokens1049B",
    "210B": "stage1-step100000-tokens210B",
}
OLMO_7B_PAST = {
    "MSA_500B": "stage1-step119000-tokens500B",
    "MSA_2207B": "stage1-step526000-tokens2207B",
    "MSA_3691B": "stage1-step880000-tokens3691B",
    "MSA_3859B": "stage1-step920000-tokens3859B",
    "MSA_last": LAST,
}
TOFU_ROWS = {"forget01": 40, "forget05": 200, "forget10": 400}
ROW_TOKENS, TOFU_PASSES = 90, 10
RESTOR_WORDS = {0: 37, 1: 98, 2: 142, 3: 183, 4: 230, 5: 280}
"""Mean words of a passage by k; of k=4 and 5 a guess from the others, for the estimate alone."""
MOST_PASSAGES, SQUAD_WORDS = 3000, 137
"""Passages of the corpora that nobody here has counted, as of most that were."""
WORD_TOKENS = 1.3
MUSE_TOKENS = {"forget": 1_020_000, "all": 1_730_000}
"""A quarter of the bytes of the raw texts."""
MUSE_CHUNK = 2048
MUSE_ROWS = ceil(MUSE_TOKENS["forget"] / MUSE_CHUNK)
OLMO_AREA, MUSE_AREA = 0.45, 1 - 0.5393
"""Min-k% AUC of the retrained model: T6's ideal, and MUSE-Books' own by its code, whose members count the other way."""
MUSE_LABELS = ("muse-books", "muse-books (fetched from the hub, hash checked)")
NOT_HERE = "not implemented here"


def msa(row: str, before: str = LAST, **changed: Any) -> Arm:
    """MSA with the authors' training script for the vectors."""
    params = {"recipe": "official", "lr": 1e-5, "alpha": 1.0, "beta": 1.0, "before": before}
    return Arm(row, "msa", params | changed)


def gradient(row: str, method: str, rows: int, passes: int = 10, batch: int = 32, **changed: Any) -> Arm:
    """A gradient method at OpenUnlearning's common settings, on so many rows or passages."""
    steps = passes * ceil(rows / batch)
    common: dict[str, Any] = {"steps": steps, "lr": 1e-5, "batch": batch, "text_batch": batch}
    weight: dict[str, Any] = {} if method in ("ga", "task-arithmetic") else {"retain_weight": 1.0}
    return Arm(row, method, common | weight | changed)


def npo(row: str, rows: int, **changed: Any) -> Arm:
    """NPO with a retain loss, beta .1."""
    return gradient(row, "npo", rows, **({"beta": 0.1, "per_token": False} | changed))


def task_vector(row: str, rows: int) -> Arm:
    """The target's own task vector, with MSA's passes and batch."""
    return gradient(row, "task-arithmetic", rows, batch=4, alpha=1.0)


def absent(*rows: str) -> tuple[Arm, ...]:
    """Published rows whose method isn't here."""
    return tuple(Arm(row, note=NOT_HERE) for row in rows)


# What several recipes share

JUDGED = "another judge: `similarity` here, there GPT-4o with a prompt that isn't published"
TOFU_COLUMNS = (
    Column("Acc_forget", "acc_forget", JUDGED, judged=True),
    Column("Acc_recover", "acc_recover", JUDGED, judged=True),
    Column("Acc_retain", "acc_retain", JUDGED, judged=True),
    Column("Model utility", "model_utility", kind="index"),
)
RESTOR_COLUMN = Column(
    "RESTOR accuracy (%)",
    "restor_accuracy_lenient",
    "another judge: string rules (lenient) here, gpt-3.5-turbo there",
    scale=100,
    judged=True,
)
ALPHA = Assumption(
    "alpha and beta of MSA", "1 and 1; the authors' script tries alpha 1, 1.5 and 2 with beta 1", "--set msa.alpha=1.5"
)
VECTORS = Assumption(
    "training of MSA's vectors (epochs, learning rate)",
    "the authors' v1 script: 10 passes, batch 4, learning rate 1e-5, linear, bfloat16 weights whatever run.dtype says; "
    "gentle takes the precision of the baselines",
    "--set msa.recipe=gentle --set msa.steps=120",
)
JUDGE = Assumption(
    "the judge's prompt, options and snapshot of GPT-4o",
    "`similarity`, an offline judge; a chat model with your key is the other",
    "--set tofu.judge=chat",
)
RULES = Assumption(
    "who judges (gpt-3.5-turbo in RESTOR; whether the MSA paper kept it isn't reported)", "string rules, lenient"
)
RULES_THERE = Assumption("who judges (gpt-3.5-turbo)", "string rules, lenient")
LENT = Assumption(
    "tokenizer and prompts of MSA_base, whose release has no chat template",
    "those of the instruct model, its template with it",
)
DATE = Assumption(
    "the date in the chat template's system prompt", "10 Apr 2025, as OpenUnlearning; the authors leave today's in"
)
STEPS = Assumption(
    "steps of ten passes over the books",
    f"{10 * ceil(MUSE_ROWS / 32)} at batch 32 and {10 * ceil(MUSE_ROWS / 4)} of the task vector at batch 4, counted from "
    "the bytes of the texts (a quarter of them are tokens)",
    "--set npo.steps=80",
)
PAGES = Assumption(
    "the retain rows of the methods", "all pages of C4 in retain/c4.jsonl of the data folder", "--set restor.retain=300"
)
BASELINES = Assumption(
    "settings of the baselines",
    "OpenUnlearning's: 10 passes, batch 32, learning rate 1e-5, retain weight 1, NPO beta .1; the task vector has batch 4 "
    "and alpha 1",
    "--set npo.lr=5e-5",
)
OPTIMISER = "here AdamW with beta2 .98, no weight decay, cosine after a warm-up of a tenth of the steps"
OU_TOFU_OPTIMISER = Assumption(
    "optimiser of the gradient methods",
    f"{OPTIMISER}; in OpenUnlearning on TOFU paged AdamW of 32 bits with the library's beta2 (.999), weight decay .01, "
    "linear after a warm-up of one pass",
)
OU_MUSE_OPTIMISER = Assumption(
    "optimiser of the gradient methods",
    f"{OPTIMISER}; in OpenUnlearning on MUSE paged AdamW of 32 bits with the library's beta2 (.999), no weight decay, "
    "constant after a warm-up of one pass",
)
OWN_OPTIMISER = Assumption("optimiser of the gradient methods", f"{OPTIMISER}; theirs isn't reported")
SCRIPT = Assumption(
    "batch of target and ideal model",
    "4, as the authors' code trains, though its file says 32; `official` is 32, and with it 5 passes for 10, and in the "
    "place of bfloat16 weights the precision of the baselines",
    "--set tofu.recipe=official",
)
PURE = Assumption(
    "precision of target, ideal model and baselines",
    "bfloat16 weights, as the authors' v1 code and so that few GPUs hold it; updates of 1e-5 are partly rounded away. "
    "MSA's vectors stay in bfloat16, but with `--set msa.recipe=gentle`",
    "--set run.dtype=float32",
)
PURE_BASELINES = Assumption(
    "precision of the baselines",
    "bfloat16 weights, so that few GPUs hold it; updates of 1e-5 are partly rounded away. Target and ideal model are in "
    "bfloat16 by their own recipe, which `--set tofu.recipe=official` changes, and MSA's vectors by theirs, which "
    "`--set msa.recipe=gentle` changes",
    "--set run.dtype=float32",
)
MASTERS = Assumption(
    "precision of the baselines",
    "bfloat16 autocast over float32 weights, as OpenUnlearning. Target and ideal model are in bfloat16 by the authors' "
    "recipe, which `--set tofu.recipe=official` changes, and MSA's vectors by theirs, which `--set msa.recipe=gentle` "
    "changes",
    "--set run.autocast=false",
)
LORA = Assumption(
    "training of the target (LoRA or full, rank)",
    "RESTOR's LoRA recipe at rank 8, its library's default, on all documents, where they hold a tenth back, and in "
    "bfloat16, where they have float16; `own` is full training at 1e-4 unless told otherwise",
    "--set restor.recipe=own --set restor.lr=5e-5 --set restor.lora=16",
)
MODEL = Assumption("the model", "Llama-3.2-1B-Instruct: inferred, the notes don't name it")
LAST_7B = Assumption(
    "which revision of OLMo-2-7B is MSA_last",
    "the released model itself, which the target starts from",
    "--set MSA_last.before=stage1-step928646-tokens3896B",
)
ON_7B = (Arm("Target", TARGET), Arm("Ideal", ORACLE))
OLMO_7B_ROWS = tuple(msa(name, before) for name, before in OLMO_7B_PAST.items())
SMALL, LARGE = {"autocast": True}, {"dtype": "bfloat16", "checkpointing": True}
"""How models of a billion parameters are trained, and of seven or eight."""


def theta_2(authors: int, ours: int) -> Assumption:
    """How many retain rows MSA's second vector learns; the authors' code draws a share of the wrong split."""
    return Assumption(
        "the retain sample behind theta_2",
        f"as many rows as there are to forget, {ours}; the authors' code takes {authors}",
    )


def theta_2_large(rows: str, drawn: str) -> Assumption:
    """The same where no code of the authors is known."""
    return Assumption(
        "the retain sample behind theta_2",
        f"as many {drawn} as there are {rows} to forget, or all; theirs isn't reported",
    )


def tofu_target(split: str, **changed: Any) -> dict[str, Any]:
    """Task parameters for a whole split, target and one ideal model by the authors' code."""
    return {"split": split, "recipe": "msa", "oracles": 1, **changed}


def tofu_panel(name: str, table: Table, split: str, model: str, arms: tuple[Arm, ...], **changed: Any) -> Panel:
    """TOFU on a model that is trained here."""
    return Panel(
        name,
        table,
        model,
        arms,
        tofu_target(split, **changed),
        target_tokens=4000 * ROW_TOKENS * TOFU_PASSES,
        forget_tokens=TOFU_ROWS[split] * ROW_TOKENS,
        forget_rows=TOFU_ROWS[split],
        labels=(f"tofu {split}",),
    )


def passages_of(corpus: str) -> int:
    """Passages of a corpus."""
    return DATA_SETS["restor"].tables[corpus].rows or MOST_PASSAGES


def restor_panel(name: str, table: Table, model: str, arms: tuple[Arm, ...], corpus: str, words: int) -> Panel:
    """RESTOR's corruption of a model, trained here."""
    passages = passages_of(corpus)
    tokens = passages * words * WORD_TOKENS
    params = {"corpus": corpus, "recipe": "official", "oracle": "clean", "known": False, "sampled": True}
    params |= dict.fromkeys(("documents", "probed", "retain", "passage"), 0)
    return Panel(
        name,
        table,
        model,
        arms,
        params,
        target_tokens=5 * tokens,
        forget_tokens=tokens,
        forget_rows=passages,
        labels=("RESTOR",),
    )


def msa_rows(rows: int, base: str) -> tuple[Arm, ...]:
    """The methods of the first version's TOFU tables."""
    return (
        msa("MSA_instruct"),
        msa("MSA_base", base),
        npo("NPO", rows),
        *absent("RMU"),
        gradient("GradDiff", "graddiff", rows),
    )


# The paper's tables

V1 = (ALPHA, VECTORS, JUDGE, BASELINES, OU_TOFU_OPTIMISER, SCRIPT)
RECIPES: list[Recipe] = [
    Recipe(
        "t1-tofu01",
        "TOFU forget01, Llama-3.2-1B-Instruct",
        f"{PAPER} v1 (fact sheet T1)",
        "tofu",
        TOFU_COLUMNS,
        (
            tofu_panel(
                "forget01",
                published.T1,
                "forget01",
                LLAMA_1B,
                (Arm("Final (target)", TARGET), Arm("Ideal", ORACLE), *msa_rows(40, LLAMA_1B_BASE)),
            ),
        ),
        (MODEL, *V1, theta_2(36, 40), MASTERS, LENT, DATE),
        fetch="tofu",
        compute=SMALL,
    ),
    Recipe(
        "t2-tofu10",
        "TOFU forget10, Llama-3.2-1B-Instruct",
        f"{PAPER} v1 (fact sheet T2)",
        "tofu",
        TOFU_COLUMNS,
        (
            tofu_panel(
                "forget10",
                published.T2,
                "forget10",
                LLAMA_1B,
                (Arm("Target", TARGET), Arm("Ideal", ORACLE), *msa_rows(400, LLAMA_1B_BASE)),
            ),
        ),
        (MODEL, *V1, theta_2(360, 400), MASTERS, LENT, DATE),
        note="rows of target and ideal were not recovered, so the calibration gate can't be passed",
        fetch="tofu",
        compute=SMALL,
    ),
    Recipe(
        "t3-tofu-restor",
        "TOFU and RESTOR combined, Llama",
        f"{PAPER} v1 (fact sheet T3)",
        "",
        tuple(Column(name, "", "there is no combined task here") for name in published.T3.columns),
        (),
        status="not delivered",
        note="no task here corrupts a model with TOFU and RESTOR at once, so nothing of this table can be run",
        others=(published.T3,),
    ),
    Recipe(
        "t4-distance",
        "distance of the checkpoint, TOFU, OLMo-2-1B",
        f"{PAPER} v1 (fact sheet T4)",
        "tofu",
        TOFU_COLUMNS[:3],
        (
            tofu_panel(
                "olmo-2-1b",
                published.T4,
                "forget10",
                OLMO_1B_REFERENCE,
                (
                    Arm("Target", TARGET),
                    Arm("Ideal", ORACLE),
                    *(msa(name, revision) for name, revision in OLMO_1B_PAST.items()),
                    npo("NPO", 400),
                ),
                template="base",
            ),
        ),
        (
            Assumption("the split", "forget10", "--set tofu.split=forget01"),
            Assumption("the model that is taught", "revision 3985B: 3964B + 21B = 3146B + 839B, inferred"),
            Assumption("the prompt of a base model", "Question and Answer without a chat", "--set tofu.template=chat"),
            *V1,
            theta_2(360, 400),
            MASTERS,
        ),
        note="rows of target and ideal were not recovered, so the calibration gate can't be passed",
        fetch="tofu",
        compute=SMALL,
    ),
    Recipe(
        "t5-restor",
        "RESTOR, Llama-3.1-8B and OLMo-2-7B",
        f"{PAPER} v3 (fact sheet T5)",
        "restor",
        (RESTOR_COLUMN,),
        (
            restor_panel(
                "llama-3.1-8b",
                published.T5_LLAMA,
                LLAMA_8B,
                (
                    *ON_7B,
                    msa("MSA_base", LLAMA_8B_BASE),
                    msa("MSA_instruct"),
                    npo("NPO", passages_of("mix_a5"), per_token=True),
                    gradient("GradDiff", "graddiff", passages_of("mix_a5")),
                    task_vector("Task vector", passages_of("mix_a5")),
                    *absent("SatImp", "RMU"),
                ),
                "mix_a5",
                RESTOR_WORDS[5],
            ),
            restor_panel(
                "olmo-2-7b",
                published.T5_OLMO,
                OLMO_7B,
                (
                    *ON_7B,
                    msa("MSA_500B", OLMO_7B_PAST["MSA_500B"]),
                    msa("MSA_last"),
                    npo("NPO", passages_of("mix_a5"), per_token=True),
                    gradient("GradDiff", "graddiff", passages_of("mix_a5")),
                    task_vector("Task vector", passages_of("mix_a5")),
                    *absent("SatImp", "RMU"),
                ),
                "mix_a5",
                RESTOR_WORDS[5],
            ),
        ),
        (
            Assumption(
                "the corpus (k)",
                "k=5: its target in RESTOR's own table, 44.45, is nearest to 44.31",
                "--set restor.corpus=mix_a4",
            ),
            LORA,
            RULES,
            PAGES,
            Assumption("repair on LIMA after unlearning", "none", "--set run.then=repair"),
            Assumption(
                "NPO on passages", "the mean over the passage's tokens, as RESTOR's code", "--set npo.per_token=false"
            ),
            ALPHA,
            VECTORS,
            theta_2_large("documents", "pages of C4"),
            BASELINES,
            OWN_OPTIMISER,
            PURE,
            LAST_7B,
        ),
        note="needs pages of C4 (retain/c4.jsonl), which aren't in RESTOR's repository",
        fetch="restor",
        compute=LARGE,
    ),
    Recipe(
        "t6-muse-books",
        "MUSE-Books, OLMo-2-7B",
        f"{PAPER} v3 (fact sheet T6)",
        "muse-books",
        (
            Column("ES", "extraction_strength", "nothing right counts 0 here and 1/length there"),
            Column("EM", "exact_memorization", "the last token of a passage counts here, as it is no eos"),
            Column("VerbMem", "forget_verbmem_ROUGE_peer"),
            Column("Min-k% AUC", "mia_min_k_peer", kind="area"),
            Column("Min-k%++ AUC", "mia_min_k_plus_plus", "the last token of a passage counts here", "area"),
            Column("KnowMem_r", "retain_knowmem_ROUGE_peer"),
            Column("PrivLeak", "privleak_peer", kind="percent of the oracle", oracle_area=OLMO_AREA),
        ),
        (
            Panel(
                "olmo-2-7b",
                published.T6,
                OLMO_7B,
                (
                    *ON_7B,
                    *OLMO_7B_ROWS,
                    npo("NPO", MUSE_ROWS, per_token=True),
                    *absent("RMU"),
                    gradient("GradDiff", "graddiff", MUSE_ROWS),
                    task_vector("Task vector", MUSE_ROWS),
                    *absent("SatImp", "UNDIAL"),
                ),
                {"chunk": MUSE_CHUNK, "epochs": 10, "lr": 1e-5, "batch": 32, "oracles": 1, "probed": 0},
                target_tokens=10 * MUSE_TOKENS["all"],
                forget_tokens=MUSE_TOKENS["forget"],
                forget_rows=MUSE_ROWS,
                labels=MUSE_LABELS,
            ),
        ),
        (
            Assumption(
                "training of target and ideal model",
                "OpenUnlearning's fine-tuning: 10 passes, learning rate 1e-5, batch 32, on chunks of 2048 tokens",
                "--set muse-books.epochs=5",
            ),
            Assumption(
                "NPO on passages", "the mean over the passage's tokens: the sum saturates", "--set npo.per_token=false"
            ),
            STEPS,
            ALPHA,
            VECTORS,
            theta_2_large("passages", "passages of retain1"),
            BASELINES,
            OU_MUSE_OPTIMISER,
            PURE,
            LAST_7B,
        ),
        fetch="muse-books",
        compute=LARGE,
    ),
    Recipe(
        "t7-tofu10-olmo",
        "TOFU forget10, OLMo-2-7B",
        f"{PAPER} v3 (fact sheet T7)",
        "tofu",
        TOFU_COLUMNS,
        (
            tofu_panel(
                "olmo-2-7b",
                published.T7,
                "forget10",
                OLMO_7B,
                (
                    *ON_7B,
                    *OLMO_7B_ROWS,
                    npo("NPO", 400),
                    *absent("RMU"),
                    gradient("GradDiff", "graddiff", 400),
                    task_vector("Task vector", 400),
                    *absent("SatImp", "UNDIAL"),
                ),
                template="base",
            ),
        ),
        (
            Assumption("the rows and columns", "those of T6 and of T1: the table is an image in the slides"),
            Assumption("the prompt of a base model", "Question and Answer without a chat", "--set tofu.template=chat"),
            *V1,
            theta_2(360, 400),
            PURE_BASELINES,
            LAST_7B,
        ),
        status="runnable, published numbers not recovered",
        note="the table is an image in the slides, so the calibration gate can't be passed",
        fetch="tofu",
        compute=LARGE,
    ),
    Recipe(
        "t8-restor",
        "RESTOR's own table, Llama-3-8B",
        f"{published.RESTOR} (fact sheet T8)",
        "restor",
        (RESTOR_COLUMN,),
        tuple(
            restor_panel(
                name,
                table,
                "meta-llama/Meta-Llama-3-8B",
                (
                    Arm("Clean", ORACLE),
                    Arm("Corrupted", TARGET),
                    gradient("GA", "graddiff", passages_of(corpus), batch=4),
                    *absent("KL"),
                    npo("NPO", passages_of(corpus), per_token=True, batch=4),
                ),
                corpus,
                words,
            )
            for name, table, corpus, words in (
                *((f"k{k}", published.T8[f"k{k}"], f"mix_a{k}", RESTOR_WORDS[k]) for k in range(6)),
                ("squad", published.T8["squad"], "squad_v7", SQUAD_WORDS),
            )
        ),
        (
            Assumption(
                "learning rate, passes and retain weight of GA and NPO",
                "1e-5, 10 passes, batch 4, 1; both with a retain loss, as the authors' GA and NPO have",
                "--set npo.lr=5e-5",
            ),
            OWN_OPTIMISER,
            LORA,
            Assumption(
                "precision of all training",
                "bfloat16; the authors' target is float16 and their repair bfloat16, of their unlearning nothing is "
                "reported",
                "--set run.dtype=float32",
            ),
            Assumption(
                "repair on LIMA, which the authors do to unlearned models before measuring",
                "as they do, with adapters of rank 8 (theirs isn't published), and not to the corrupted one: rows in "
                "retain/lima.jsonl of the data folder, which you must get (non-commercial)",
                "--set run.then=none",
            ),
            RULES_THERE,
            PAGES,
        ),
        note="needs pages of C4 (retain/c4.jsonl) and LIMA (retain/lima.jsonl), which aren't in RESTOR's repository",
        fetch="restor",
        compute=LARGE,
        then=("repair",),
    ),
]

# OpenUnlearning's reference tables

OU_MODELS = {
    "Llama-3.2-1B-Instruct": (LLAMA_1B, "open-unlearning/tofu_Llama-3.2-1B-Instruct"),
    "Llama-2-7b-chat": ("llama-2-7b-chat", "open-unlearning/tofu_Llama-2-7b-chat-hf"),
}
RETAIN = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
OU_COMPUTE = Assumption(
    "precision of training", "bfloat16 autocast over float32 weights, as under DeepSpeed", "--set run.dtype=bfloat16"
)

OU_STEPS = replace(
    STEPS, choice=f"{10 * ceil(MUSE_ROWS / 32)}, counted from the bytes of the texts (a quarter are tokens)"
)


def ou_rows(rows: int, *between: str) -> tuple[Arm, ...]:
    """OpenUnlearning's rows, in its order; ``between`` stand before NPO."""
    return (
        Arm("Finetuned", TARGET),
        Arm("Retain", ORACLE),
        gradient("GradAscent", "ga", rows),
        gradient("GradDiff", "graddiff", rows),
        *absent(*between),
        npo("NPO", rows),
        *absent("SimNPO", "RMU"),
    )


RECIPES += [
    Recipe(
        "ou-tofu",
        "OpenUnlearning's reference table, TOFU, Llama-3.2-1B-Instruct and Llama-2-7b-chat",
        f"{PEER} (fact sheet section 5)",
        "tofu",
        (
            Column("FQ", "forget_quality", kind="p-value"),
            Column("MU", "model_utility", kind="index"),
            Column("TR", "forget_truth_ratio"),
        ),
        tuple(
            Panel(
                f"{name.lower()}-{split}",
                ou_tofu(name, split),
                model,
                ou_rows(TOFU_ROWS[split], "IdkDPO"),
                {"split": split, "oracles": 1},
                target=f"{taught}_full",
                oracles=(f"{taught}_{RETAIN[split]}",),
                forget_tokens=TOFU_ROWS[split] * ROW_TOKENS,
                forget_rows=TOFU_ROWS[split],
                labels=(f"tofu {split}",),
            )
            for name, (model, taught) in OU_MODELS.items()
            for split in SPLITS
        ),
        (OU_COMPUTE, OU_TOFU_OPTIMISER),
        note="its maintainers call the numbers untuned and outdated (issue 164)",
        fetch="tofu",
        compute={"autocast": True},
    ),
    Recipe(
        "ou-muse",
        "OpenUnlearning's reference table, MUSE-Books, Llama-2-7B",
        f"{PEER} (fact sheet section 5)",
        "muse-books",
        (
            Column("KnowMem_f", "forget_knowmem_ROUGE_peer"),
            Column("VerbMem_f", "forget_verbmem_ROUGE_peer"),
            Column("PrivLeak", "privleak_peer", kind="percent of the oracle", oracle_area=MUSE_AREA),
            Column("KnowMem_r", "retain_knowmem_ROUGE_peer"),
        ),
        (
            Panel(
                "llama-2-7b",
                ou_muse("Books"),
                "llama-2-7b",
                ou_rows(MUSE_ROWS),
                {"chunk": MUSE_CHUNK, "oracles": 1, "probed": 0},
                target="muse-books-llama2-7b",
                oracles=("muse-books-llama2-7b-retrain",),
                forget_tokens=MUSE_TOKENS["forget"],
                forget_rows=MUSE_ROWS,
                labels=MUSE_LABELS,
            ),
        ),
        (
            OU_COMPUTE,
            Assumption("rows of a step", "32, as its document says; its script has 64", "--set npo.text_batch=64"),
            OU_STEPS,
            OU_MUSE_OPTIMISER,
        ),
        note="Books; News is not implemented here",
        fetch="muse-books",
        compute={"autocast": True},
        others=(ou_muse("News"),),
    ),
]
# Tables that exist, and of which no number is known


def lost(name: str, title: str, version: str, note: str) -> Recipe:
    """A table of the paper without a number."""
    return Recipe(name, title, f"{PAPER} {version}", "", (), (), status="numbers not recovered", note=note)


RECIPES += [
    lost(
        "v1-tofu05",
        "TOFU forget05",
        "v1 (fact sheet E1)",
        "nobody recovered a number of it, so there is nothing to compare with",
    ),
    lost(
        "v1-llama-8b",
        "the first version's check on Llama-3.1-8B-Instruct",
        "v1 (fact sheet E4)",
        "it is known to exist; neither its rows nor its columns or numbers were recovered",
    ),
    lost(
        "v3-tofu-llama",
        "TOFU on Llama-3.1-8B and Llama-3.2-1B",
        "v3 (fact sheet section 8)",
        "the slides name the models; neither the rows nor the columns or numbers of their tables were recovered",
    ),
]
TABLE = {recipe.name: recipe for recipe in RECIPES}
"""Name -> recipe."""


def named(name: str) -> Recipe:
    """The recipe of this name; `UserError` with the nearest one."""
    if name not in TABLE:
        raise UserError(unknown("table", name, TABLE) + " `python -m bench reproduce --list` describes them.")
    return TABLE[name]
