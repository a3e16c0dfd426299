"""Does a text give an accepted answer? By string, offline: what RESTOR asks GPT-3.5 (Rezaei et al. 2025, section 4).

The text counts up to its first line break; a text that begins with one says nothing. Two texts are compared as words:
Unicode NFKC, case and accents folded, possessive 's and apostrophes dropped, ``&`` read as "and", English articles
dropped, single letters joined ("O. R." = "or"), numbers by value ("1,000" = "1000"), all other punctuation and spacing
ignored.

*exact*: the whole text is one accepted answer, or a list of accepted answers between commas, semicolons, slashes or
"and", or a date of an accepted date's value.

*lenient*: exact, or one of

1. *named*: an accepted answer's words stand side by side in the text, and there neither denied (`is_denied`) nor after a
   word that makes it something else ("South Africa" is not "Africa", "Lieutenant General" not "General");
2. *part*: the whole text is a part of an accepted answer that can stand for it (`stands_for`): "Burr" for "Aaron Burr",
   "Princeton" for "Princeton University", "Prince George" for "Prince George, Duke of Kent";
3. *short form*: initials ("USSR") or a name with given names left out or shortened ("A. Burr"), either way round;
4. *date*: a date in a text without denial that agrees with an accepted date wherever both say something
   ("1934" and "1 May 1934" agree).

Nothing empty and no single letter ever matches. There is no world knowledge: the judge takes "Bangkok" for "Grand
Palace" and "Buddhist" for "Buddhism", these rules do not, so scores lie below the judge's. They also can't see the
question: a text that only repeats it can name an answer that the question holds (a given name).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench.core.files import read_toml

LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "&": " and "}
)
"""What decomposition leaves of the Latin letters with strokes and ligatures, and the one sign that is a word."""
LIST_MARKS, CLAUSE_MARKS = frozenset(",;/"), frozenset(",;:.!?()[]—")

LISTS: dict[str, str] = read_toml(Path(__file__).with_name("answer_words.toml"))
WORDS = {name: frozenset(text.split()) for name, text in LISTS.items()}
ARTICLES, PREPOSITIONS = WORDS["articles"], WORDS["prepositions"]
DENIALS, AUXILIARIES, UNTRUE = WORDS["denials"], WORDS["auxiliaries"], WORDS["untrue"]
CHANGING, NUMERALS = WORDS["changing"], WORDS["numerals"]
KINDS, POLITIES = WORDS["kinds"], WORDS["polities"]
COMMON = KINDS | WORDS["common"]
MONTHS = tuple(LISTS["months"].split())
MONTH = rf"(?P<month>{'|'.join(MONTHS)}|sept|{'|'.join(name[:3] for name in MONTHS)})\b\.?"
YEAR = r"(?P<year>\d{1,4}(?=\s*bc)|\d{3,4})(?:\s*(?P<bc>bce?\b))?(?!\d)"
DATES = tuple(
    re.compile(rf"(?<![\w.,-]){pattern}")
    for pattern in (
        r"(?P<sign>[+-]?)(?P<year>\d{4})-(?P<number>\d\d)-(?P<day>\d\d)(?:t00:00:00z)?",
        rf"(?P<day>\d\d?)(?:st|nd|rd|th)?(?:\s+of)?\s+{MONTH},?\s+{YEAR}",
        rf"{MONTH}\s+(?P<day>\d\d?)(?:st|nd|rd|th)?,?\s+{YEAR}",
        rf"{MONTH},?\s+{YEAR}",
        YEAR,
    )
)
"""Ways to write a date, the fullest first; on folded text."""

Date = tuple[int, int, int]
"""Year (negative: BC), month, day; 0 where it isn't said."""


@dataclass(frozen=True)
class Reading:
    """A text as it is compared."""

    raw: str
    words: tuple[str, ...]
    marks: tuple[frozenset[str], ...]
    """The punctuation before each word."""

    @property
    def says(self) -> bool:
        """Whether anything can match it: more than one letter, or a number."""
        return len("".join(self.words)) > 1 or any(word.isdigit() for word in self.words)


def match(text: str, accepted: Sequence[str], corrupted: Sequence[str] = ()) -> dict[str, int]:
    """``exact`` and ``lenient``: 1 where ``text`` gives an accepted answer, else 0.

    With ``corrupted`` also ``wrong`` and ``wrong_lenient``, by the same rules on the corrupted values: 0 where the text
    is exactly an accepted answer. A text that names both is lenient and wrong_lenient. Without corrupted values the two
    are left out: nobody knows what would be wrong.
    """
    said = read_words(re.split(r"[\r\n]", text, maxsplit=1)[0])
    right, false = [read_words(answer) for answer in accepted], [read_words(answer) for answer in corrupted]
    found = {"exact": is_exact(said, right), "lenient": is_lenient(said, right)}
    if corrupted:
        found["wrong"] = not found["exact"] and is_exact(said, false)
        found["wrong_lenient"] = not found["exact"] and is_lenient(said, false)
    return {name: int(value) for name, value in found.items()}


def is_exact(said: Reading, answers: Sequence[Reading]) -> bool:
    """Whether the whole text is an answer, a list of answers, or an answer's date."""
    known = [answer for answer in answers if answer.says]
    return is_list_of(said, {answer.words for answer in known}) or any(same_date(said, answer) for answer in known)


def is_lenient(said: Reading, answers: Sequence[Reading]) -> bool:
    """Whether the text is, names, or can stand for an answer."""
    if not said.says:
        return False
    return is_exact(said, answers) or any(
        is_named_in(said, answer)
        or stands_for(said.words, answer)
        or shortens(said, answer)
        or shortens(answer, said, least=3)  # any two words have some initials
        or dates(said, answer)
        for answer in answers
        if answer.says
    )


@lru_cache(maxsize=65536)
def read_words(text: str) -> Reading:
    """``text`` as words, with the punctuation before each."""
    folded = fold(text)
    folded = re.sub(r"(?<=\w)'s\b|'", "", folded)
    folded = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", folded)  # 1,000
    folded = re.sub(r"(?<!\w)([^\W\d_])\s?&\s?([^\W\d_])(?!\w)", r"\1\2", folded)  # R&B
    folded = re.sub(r"(?<!\w)([^\W\d_])\.", r"\1 ", folded)  # D.C.
    found, marks = list[str](), list[frozenset[str]]()
    before, after_single = set[str](), False
    for token in re.findall(r"\d+\.\d+|[^\W_]+|[^\w\s]", folded.translate(LETTERS)):
        if not token[0].isalnum():
            before.add(token)
            continue
        single = len(token) == 1 and token.isalpha() and not (token in ARTICLES and not after_single)
        if single and after_single and not before:
            found[-1] += token
        else:
            found.append(plain_number(token))
            marks.append(frozenset(before))
            before = set()
        after_single = single
    kept = [i for i, word in enumerate(found) if word not in ARTICLES] or range(len(found))
    return Reading(text, tuple(found[i] for i in kept), tuple(marks_before(marks, found, i) for i in kept))


def marks_before(marks: Sequence[frozenset[str]], found: Sequence[str], i: int) -> frozenset[str]:
    """The marks before word ``i``, with those before an article that was dropped there."""
    return marks[i] | marks[i - 1] if i and found[i - 1] in ARTICLES else marks[i]


def fold(text: str) -> str:
    """``text`` without case, accents and kinds of apostrophe."""
    plain = re.sub("[\u2018\u2019\u02bc\u00b4`]", "'", text)
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", plain).casefold())
    return "".join(char for char in parts if unicodedata.category(char) != "Mn")


def plain_number(word: str) -> str:
    """A number without needless zeros; another word as it is."""
    if not word[0].isdecimal() or not word.replace(".", "").isdecimal():
        return word
    whole, _, part = word.partition(".")
    return (whole.lstrip("0") or "0") + ("." + part.rstrip("0") if part.rstrip("0") else "")


def is_list_of(said: Reading, answers: set[tuple[str, ...]]) -> bool:
    """Whether the text is one answer, or several with a list mark or "and" between them."""
    size, ahead, seen = len(said.words), [0], {0}
    while ahead:
        start = ahead.pop()
        for answer in answers:
            end = start + len(answer)
            if said.words[start:end] != answer:
                continue
            if end == size:
                return True
            joined = said.words[end] == "and"
            if (joined or said.marks[end] & LIST_MARKS) and end + joined not in seen:
                seen.add(end + joined)
                ahead.append(end + joined)
    return False


def is_named_in(said: Reading, answer: Reading) -> bool:
    """Whether the answer stands in the text, undenied, and not as the end of another thing's name."""
    return any(
        not is_denied(said, start, end)
        and not (start and said.words[start - 1] in CHANGING and not said.marks[start] & CLAUSE_MARKS)
        for start, end in find_runs(answer.words, said.words)
    )


def find_runs(part: tuple[str, ...], whole: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """(start, end) of each place where ``part`` stands in ``whole``."""
    for start in range(len(whole) - len(part) + 1):
        if whole[start : start + len(part)] == part:
            yield start, start + len(part)


def is_denied(said: Reading, start: int, end: int) -> bool:
    """Whether words ``start`` to ``end`` are denied: a denial stands before them in their clause, or right after them.

    A clause ends at punctuation and at "but". After them: "is not", "isn't", "would be wrong". Errs on the strict side:
    "not only Thailand" denies Thailand.
    """
    for i in range(start, 0, -1):
        if said.marks[i] & CLAUSE_MARKS or said.words[i - 1] == "but":
            break
        if said.words[i - 1] in DENIALS:
            return True
    after = [word for word in said.words[end : end + 3] if word != "be"]
    if not after or said.marks[end] & CLAUSE_MARKS:
        return False
    contracted = after[0].endswith("nt") and after[0] in DENIALS
    return contracted or (after[0] in AUXILIARIES and len(after) > 1 and after[1] in DENIALS | UNTRUE)


def stands_for(part: tuple[str, ...], answer: Reading) -> bool:
    """Whether ``part`` of the answer's words can stand for it.

    It holds a word of three letters that isn't in `COMMON`, what is left out holds no number and no word that makes
    another name (`CHANGING`), and it is

    - the head, before a comma, a preposition, or nothing but `KINDS`: "Princeton", "United States" (of America); or
    - the end, `KINDS` aside, of an answer without prepositions: a surname; or
    - what follows `POLITIES` and "of": "China" (People's Republic of).
    """
    whole = answer.words
    for start, end in find_runs(part, whole):
        before, after = whole[:start], whole[end:]
        left = set(before + after)
        if not left or left & (CHANGING | NUMERALS) or any(char.isdigit() for word in left for char in word):
            continue
        kind_only = set(after) <= KINDS
        head = not before and (kind_only or "," in answer.marks[end] or after[0] in PREPOSITIONS)
        tail = kind_only and not PREPOSITIONS & set(whole) and "and" not in whole
        land = not after and before[-1:] == ("of",) and set(before[:-1]) <= POLITIES
        if (head or tail or land) and any(map(distinctive, part)):
            return True
    return False


def distinctive(word: str) -> bool:
    """Whether a word tells one answer from another."""
    return len(word) > 2 and word not in COMMON | PREPOSITIONS and not word.isdigit()


def shortens(short: Reading, long: Reading, least: int = 2) -> bool:
    """Whether ``short`` is the initials of ``long``, in at least ``least`` capitals, or the same name with fewer letters.

    In a name the given names may be shortened to initials, and those after the first left out.
    """
    capitals = re.sub(r"[.\s]", "", short.raw.strip(" .,"))
    if len(long.words) > 1 and re.fullmatch(f"[A-Z]{{{least},6}}", capitals):
        initials = {"".join(w[0] for w in long.words), "".join(w[0] for w in long.words if w not in PREPOSITIONS)}
        initials.add("".join(w[0] for w in long.words if w not in PREPOSITIONS | {"and"}))
        return capitals.casefold() in initials
    given, rest = short.words[:-1], iter(long.words[:-1])
    if not given or short.words[-1] != long.words[-1] or not distinctive(long.words[-1]):
        return False
    if PREPOSITIONS & set(long.words) or (CHANGING | NUMERALS) & set(long.words) - set(short.words):
        return False
    pieces = [piece for word in given for piece in ([word] if len(word) > 3 or word in long.words else word)]
    first = fits(pieces[0], long.words[0]) if len(long.words) > 1 else False
    return first and all(any(fits(piece, word) for word in rest) for piece in pieces)


def fits(piece: str, word: str) -> bool:
    """Whether a word, or its initial, is ``piece``."""
    return piece == word or (len(piece) == 1 and word.startswith(piece))


def same_date(said: Reading, answer: Reading) -> bool:
    """Whether both are nothing but a date, and the same to the same precision."""
    date = whole_date(answer)
    return date is not None and date == whole_date(said)


def dates(said: Reading, answer: Reading) -> bool:
    """Whether the answer is a date and the text, which denies nothing, holds one that agrees with it."""
    date = whole_date(answer)
    return date is not None and not DENIALS & set(said.words) and any(agree(date, one) for one in dates_in(said.raw))


def whole_date(reading: Reading) -> Date | None:
    """The date that the whole text is, if any."""
    text = fold(reading.raw).strip(" .,")
    return next((value(found) for pattern in DATES if (found := pattern.fullmatch(text))), None)


def dates_in(text: str) -> Iterator[Date]:
    """Every date in the text, each place in its fullest form."""
    folded = fold(text)
    for pattern in DATES:
        for found in pattern.finditer(folded):
            yield value(found)
        folded = pattern.sub(lambda found: "_" * len(found.group()), folded)


def value(found: re.Match[str]) -> Date:
    """The date of a match of `DATES`."""
    parts = found.groupdict()
    year = int(parts["year"]) * (-1 if parts.get("bc") or parts.get("sign") == "-" else 1)
    month = int(parts.get("number") or 0)
    if said := parts.get("month"):
        month = 1 + next(i for i, name in enumerate(MONTHS) if name.startswith(said[:3]))
    return year, month, int(parts.get("day") or 0)


def agree(one: Date, other: Date) -> bool:
    """Whether two dates are equal in the year and wherever both say something."""
    return one[0] == other[0] and all(a == b or not a or not b for a, b in zip(one, other, strict=True))
