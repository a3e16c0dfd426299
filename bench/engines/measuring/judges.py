"""Judges: which of several reference answers is the model's own answer factually closest to?

The paper (arXiv 2506.20941) asks GPT-4o. Here the judge is a plug-in, and the default, `Similarity`, is a rule over
words that needs no network; every score names the judge that made it. Judging comes after measuring and is pure but
for the judge: `judge_rows` makes the rows of a probe such as ``forget_judged``, which `bench.metrics.judged` scores.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
import unicodedata
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from http.client import HTTPException
from importlib.metadata import entry_points
from typing import Any, Protocol

from bench.core.errors import UserError, unknown
from bench.core.types import Example, Json, Probe, Responses
from bench.metrics.judged import calibration

GROUP = "msa_bench.judges"
"""Entry points of judges: name -> something callable without arguments that gives a `Judge`."""
DIGITS = 9
"""Decimals of a grade of `Similarity`: what differs less is a tie."""
EMPTY = (
    "a an the of in on at to for from by with as and or that this these those is are was were be been being am has have "
    "had having do does did it its he him his she her hers they them their theirs who whom whose which what when where "
    "why how there here"
)
STOP_WORDS = frozenset(EMPTY.split())
"""Words that state no fact; ``no`` and ``not`` do."""


class Judge(Protocol):
    """Compares answers by their facts."""

    @property
    def name(self) -> str:
        """Stands beside every score: ``similarity``, ``chat:<model>``."""

    @property
    def version(self) -> int:
        """Raised whenever the same answers may get other grades."""

    def grade(self, question: str, answer: str, options: Mapping[str, str]) -> dict[str, float]:
        """How well each option fits the ``answer`` of a model, by the option's name; the highest is the pick.

        Only grades of one call compare. The names say nothing: a judge must not look at them.
        """


def label(judge: Judge) -> str:
    """``similarity v1``: what the metrics write beside their scores."""
    return f"{judge.name} v{judge.version}"


def load_judge(name: str) -> Judge:
    """The judge of that name: ``similarity``, ``chat`` (set up by the environment) or a plug-in's."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    ours = {"similarity": Similarity, "chat": ChatJudge}
    if name not in (known := {**found, **ours}):
        raise UserError(unknown("judge", name, known))
    try:
        judge: Judge = ours[name]() if name in ours else found[name].load()()
    except (ImportError, AttributeError) as error:
        raise UserError(f"The plug-in for the judge '{name}' can't be loaded: {error}.") from error
    return judge


def judge_rows(
    responses: Responses, oracles: Sequence[Responses], judge: Judge, examples: Iterable[Example], said_probe: str
) -> dict[str, Json]:
    """The judge's grades of what ``responses`` has under the probe ``said_probe``: id -> ``{"grades": {option: number}}``.

    Options: ``truth`` (the example's answer), ``oracle-0`` ... (what the oracles that are other checkpoints said, in
    their order) and ``wrong-0`` ... (its wrong answers). Examples without a greedy generation are left out. The paper
    judges the ideal model against itself; to do so pass it under another name: ``replace(oracle, checkpoint="")``.
    """
    said = responses.rows.get(said_probe, {})
    others = [oracle.rows.get(said_probe, {}) for oracle in oracles if oracle.checkpoint != responses.checkpoint]
    rows: dict[str, Json] = {}
    for example in examples:
        if "text" not in said.get(example.id, {}):
            continue
        spoken = {f"oracle-{i}": by_id[example.id]["text"] for i, by_id in enumerate(others) if example.id in by_id}
        wrong = {f"wrong-{i}": text for i, text in enumerate(example.references.get("wrong", ()))}
        options = {"truth": example.payload["answer"], **spoken, **wrong}
        grades = judge.grade(example.payload["prompt"], said[example.id]["text"], options)
        rows[example.id] = {"grades": {option: float(grades[option]) for option in options}}
    return rows


@dataclass(frozen=True)
class Similarity:
    """The offline judge: overlap of the words that tell the options apart. Deterministic; knows no synonyms.

    1. A text becomes the set of its words' Porter stems: lower case, without accents, possessives and stop words.
    2. A stem weighs 1 / d³, d the number of different options that have it (options with equal stems are one; a stem
       of no option weighs 1). So what all options say, among it most words of the question, counts for almost nothing,
       as does the phrasing that wrong answers share, and a name that only one of them has counts in full.
    3. A grade is the weighted F1, 2 w(both) / (w(answer) + w(option)), rounded to 9 decimals.
    4. When no option shares a stem with the answer, all grades are ROUGE-L F1 over all stems, stop words included.

    Equal grades are a tie, which the metrics never count in the model's favour; so are an empty answer and one that
    shares no word with any option, a refusal in other words for instance (all grades 0).

    Chosen by the published rows of TOFU: d³ finds the truth in 7 of 10 of TOFU's paraphrased answers, whose phrasing the
    wrong answers copy; dropping only what is in the question or in every option finds it in 2 of 10.
    """

    name: str = field(default="similarity", init=False)
    version: int = field(default=1, init=False)

    def grade(self, question: str, answer: str, options: Mapping[str, str]) -> dict[str, float]:
        """As the class says; ``question`` takes no part."""
        said, texts = stems(answer), {option: stems(text) for option, text in options.items()}
        kinds = {frozenset(telling(words)) for words in texts.values()}
        having = Counter(stem for kind in kinds for stem in kind)
        grades = {option: f1(telling(said), telling(words), having) for option, words in texts.items()}
        if not any(grades.values()):
            grades = {option: longest_common_f1(said, words) for option, words in texts.items()}
        return {option: round(grade, DIGITS) for option, grade in grades.items()}


def stems(text: str) -> list[str]:
    """The stems of a text's words, in order; words of three letters and less stay whole."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return [stem(word) for word in re.findall(r"[^\W_]+", re.sub(r"['’]s\b", "", bare))]


@cache
def stem(word: str) -> str:
    """Porter's stem of one word; stop words keep the form in which `STOP_WORDS` has them."""
    return word if len(word) <= 3 or word in STOP_WORDS else porter().stem(word)


@cache
def porter() -> Any:
    """The stemmer that rouge-score uses."""
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


def telling(words: Iterable[str]) -> set[str]:
    """The stems that may state a fact."""
    return set(words) - STOP_WORDS


def f1(said: set[str], option: set[str], having: Mapping[str, int]) -> float:
    """F1 of two sets of stems, each weighing 1 / (options that have it)³; summed exactly, as sets have no order."""

    def weight(words: set[str]) -> float:
        return math.fsum(1 / having.get(word, 1) ** 3 for word in words)

    return 2 * weight(said & option) / (weight(said) + weight(option)) if said & option else 0.0


def longest_common_f1(said: Sequence[str], option: Sequence[str]) -> float:
    """ROUGE-L F1."""
    from bench.metrics.rouge import common

    return 2 * common(said, option) / (len(said) + len(option)) if said and option else 0.0


PROMPT = """\
You compare statements by the facts in them. Below are a question, an answer to it, and {count} candidates, numbered from
1. Say for each candidate how far its facts agree with those of the answer, as a whole number from 0 (other facts, or none
in common) to 100 (the same facts). Wording, length and style do not matter, nor does which of them is true. Give two
candidates the same number only if they state the same facts.

Question: {question}

Answer: {answer}

{candidates}

Reply with one JSON object and nothing else: each candidate's number, as text, with its agreement, such as {example}."""

FIRST, MOST = 1, 100
WAITING = (408, 409, 429, 500, 502, 503, 504, 529)
"""HTTP codes of a server that may answer later."""


class Unreadable(Exception):
    """No reply, or one that isn't what the prompt asks for; the text says why."""


def environment(name: str, default: str = "", shown: bool = True) -> Any:
    """A field whose default is an environment variable, read when the judge is made."""
    return field(default_factory=lambda: os.environ.get(name, default), repr=shown)


@dataclass(frozen=True)
class ChatJudge:
    """A judge behind an OpenAI-compatible ``/chat/completions`` endpoint; costs a request for each answer.

    The options are shown in an order that a hash of the question decides, so that none is favoured by its place.
    """

    model: str = environment("MSA_BENCH_JUDGE_MODEL")
    url: str = environment("MSA_BENCH_JUDGE_URL", "https://api.openai.com/v1")
    """The endpoint's base, up to ``/v1``."""
    key: str = environment("OPENAI_API_KEY", shown=False)
    attempts: int = 3
    """Requests for one answer, at most."""
    pause: float = 2.0
    """Seconds before the second attempt, doubled before each further one."""
    timeout: float = 60.0
    """Seconds to wait for a reply."""
    version: int = field(default=1, init=False)
    accepts: float = field(default=50.0, init=False)
    """Grade from which an accepted answer counts as given (RESTOR, where the judge says right or wrong)."""

    def __post_init__(self) -> None:
        """Refuse what can't work, before anything is asked."""
        if not self.model:
            raise UserError("The judge 'chat' needs a model: set MSA_BENCH_JUDGE_MODEL to its name.")
        if not self.url.startswith(("https://", "http://")):
            raise UserError(
                "MSA_BENCH_JUDGE_URL must begin with https:// or http://, and end before /chat/completions."
            )
        if not self.key:
            raise UserError(
                "The judge 'chat' needs a key: set OPENAI_API_KEY (any text where the server asks for none)."
            )

    @property
    def name(self) -> str:
        """``chat:<model>``."""
        return f"chat:{self.model}"

    def grade(self, question: str, answer: str, options: Mapping[str, str]) -> dict[str, float]:
        """The agreement of each option with the answer, 0 to 100, as the model says; `UserError` when it can't be had."""
        shown = shuffled(options, question)
        messages = [{"role": "user", "content": prompt(question, answer, [options[option] for option in shown])}]
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                numbers = parse(self.reply(messages), len(shown))
                return dict(zip(shown, numbers, strict=True))
            except Unreadable as error:
                reason = str(error)
        raise UserError(f"The judge {self.name} gave no usable reply in {self.attempts} attempts: {reason}.")

    def reply(self, messages: list[dict[str, str]]) -> str:
        """The model's text; `UserError` when the server refuses for good, `Unreadable` when it may do better later."""
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                said = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code in WAITING:
                    raise Unreadable(f"the server said {error.code} {error.reason}") from None
                remedy = (
                    "check OPENAI_API_KEY" if error.code in (401, 403) else "check the model and MSA_BENCH_JUDGE_URL"
                )
                raise UserError(f"The judge {self.name} was refused ({error.code} {error.reason}): {remedy}.") from None
        except (OSError, HTTPException) as error:
            raise Unreadable(str(error) or type(error).__name__) from None
        try:
            return str(json.loads(said)["choices"][0]["message"]["content"])
        except (ValueError, LookupError, TypeError):
            raise Unreadable("the server's reply is not one of /chat/completions") from None


def shuffled(options: Mapping[str, str], question: str) -> list[str]:
    """The options' names in the order of a hash of the question and each option's text."""

    def place(option: str) -> tuple[str, str]:
        return hashlib.sha256(f"{question}\0{options[option]}".encode()).hexdigest(), option

    return sorted(options, key=place)


def prompt(question: str, answer: str, candidates: Sequence[str]) -> str:
    """What the chat model is asked, ``candidates`` in the order they are shown in."""
    listed = "\n".join(f"Candidate {i}: {text}" for i, text in enumerate(candidates, start=1))
    example = json.dumps({str(i): 10 * i for i in range(1, min(len(candidates), 3) + 1)})
    return PROMPT.format(
        count=len(candidates), question=question, answer=answer or "(nothing)", candidates=listed, example=example
    )


def parse(text: str, count: int) -> list[float]:
    """The agreements of candidates 1 to ``count``; `Unreadable` unless each has one number from 0 to 100."""
    try:
        found = json.loads(re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip()))
    except ValueError:
        raise Unreadable("the model's reply is not JSON") from None
    if not isinstance(found, dict) or set(found) != {str(i) for i in range(FIRST, count + 1)}:
        raise Unreadable(f"the model's reply does not name candidates 1 to {count}, each once")
    numbers = [found[str(i)] for i in range(FIRST, count + 1)]
    if not all(type(number) in (int, float) and 0 <= number <= MOST for number in numbers):
        raise Unreadable("an agreement is not a number from 0 to 100")
    return [float(number) for number in numbers]


KIND = "judge"


def judge_probes(probes: Sequence[Probe]) -> list[Probe]:
    """Those that are judged and not asked."""
    return [probe for probe in probes if probe.kind == KIND]


def labels(probes: Sequence[Probe]) -> list[str]:
    """Names and versions of the judges of these probes."""
    return [label(load_judge(str(probe.options["judge"]))) for probe in judge_probes(probes)]


def judged(responses: Responses, oracles: Sequence[Responses], probes: Sequence[Probe]) -> Responses:
    """The responses with a row of grades for each judged example; the measured checkpoint is no oracle of its own."""
    rows = {probe.name: grades(responses, oracles, probe) for probe in judge_probes(probes)}
    return replace(responses, rows={**responses.rows, **rows})


def grades(responses: Responses, oracles: Sequence[Responses], probe: Probe) -> dict[str, Json]:
    """The judge's grades for one probe."""
    judge, said = load_judge(str(probe.options["judge"])), str(probe.options["said"])
    if any("accepted" in example.references for example in probe.examples):
        return accepted_rows(responses, judge, probe.examples, said)
    return judge_rows(responses, oracles, judge, probe.examples, said) if oracles else {}


def check_accepts(name: str) -> None:
    """`UserError` unless the judge can say of a single answer whether it is given."""
    if not hasattr(load_judge(name), "accepts"):
        raise UserError(
            f"The judge '{name}' only compares answers and can't accept one: use 'chat', or leave the judge out "
            "(RESTOR's accuracy by string rules needs none)."
        )


def accepted_rows(responses: Responses, judge: Any, examples: Sequence[Example], said: str) -> dict[str, Json]:
    """How far each accepted answer agrees with each text that was generated: ``grades``, one dictionary a text.

    ``accepts`` is the grade from which an answer counts as given. The question is the prompt's last line.
    """
    rows: dict[str, Json] = {}
    for example in examples:
        row = responses.rows.get(said, {}).get(example.id, {})
        texts = row.get("texts", [row["text"]] if "text" in row else [])
        if not texts:
            continue
        question = str(example.payload["prompt"]).rpartition("\n")[2]
        options = {f"accepted-{i}": text for i, text in enumerate(example.references["accepted"])}
        rows[example.id] = {
            "grades": [judge.grade(question, text, options) for text in texts],
            "accepts": float(judge.accepts),
        }
    return rows


def calibrated(target: Responses, oracle: Responses, probes: Sequence[Probe]) -> Json:
    """How the judge grades the target and the oracle, the latter against itself as in the paper; what it is worth."""
    twin = [replace(oracle, checkpoint="itself")]
    by_side = {probe.name.removesuffix("_judged"): probe for probe in judge_probes(probes)}
    before, after = ({s: grades(who, twin, probe) for s, probe in by_side.items()} for who in (target, oracle))
    return calibration(before, after, labels(probes)[0])
