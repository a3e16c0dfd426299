"""Commands that are killed or interrupted at random moments, and given again, to the same end as without.

A case is a chain: the same command is begun up to four times, and ended each time somewhere in its life, from its first
imports to after its end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.campaign import Case, Kind
from tests.faults.compare import judge_end, judge_processes
from tests.faults.ground import SCENES, Done, Ground, faults_of, kill, marked, patience, read_facts

WAYS = ("kill parent", "kill worker", "kill all", "ctrl-c", "ctrl-c twice", "ctrl-c held", "term", "hang up")
COMMANDS = ("run", "publish", "tune", "fetch", "ablate", "msa", "eval", "books")
MOST_KILLS = 4
IMPORTS_SECONDS = 3.0
"""The early life of a process."""
HEEDS_SECONDS = 20.0
"""In which a command that is told to end does so on an idle machine: after what it is importing, which may be torch."""
WORDS = "the same command goes on from there."


def attempt(case: Case) -> None:
    """A chain of killed commands, then the same one undisturbed."""
    rng, ground = case.rng, case.ground
    name = COMMANDS[case.number % len(COMMANDS)]
    lasts, folder = fresh_seconds(ground, name), ground.begin(name, case.folder / "place")
    case.tried, told = 0, []
    for number in range(rng.randint(1, MOST_KILLS)):
        way = rng.choice(WAYS) if number else WAYS[case.number // len(COMMANDS) % len(WAYS)]
        at = rng.uniform(0, IMPORTS_SECONDS) if rng.random() < 0.25 else rng.uniform(0, 1.1 * lasts)
        told.append(f"{way} at {at:.2f} s")
        case.what = f"{name}: {', '.join(told)}"
        before = kept_facts(folder)
        if break_off(case, name, folder, way, at):
            case.tried += 1
        for lost in sorted(set(before) - set(after := kept_facts(folder))):
            case.lost(f"{lost} was there before the command was ended")
        for changed in sorted(file for file in before if file in after and before[file] != after[file]):
            case.wrong(f"{changed} is another one after the command was ended")
        for file, fact in after.items():
            if str(fact).startswith("unreadable"):
                case.lost(f"{file} is half a file: {fact}")
    judge_end(case, name, folder, fresh=rng.random() < 0.2)
    judge_processes(case)


def kept_facts(folder: Path) -> dict[str, object]:
    """Of what may not change: nodes, records, studies, results; pages and pictures are drawn anew, an unfinished sum moves.

    The record of a run that failed, as its worker was killed, gives way to the run that is made again.
    """
    return {
        file: fact
        for file, fact in read_facts(folder).items()
        if Path(file).suffix not in (".md", ".png", ".svg")
        and ".partial/" not in file
        and not (isinstance(fact, dict) and fact.get("status") == "failed")
    }


def fresh_seconds(ground: Ground, name: str) -> float:
    """About how long the scene's commands take in fresh processes."""
    processes = sum(2 if words[0] in ("run", "tune", "ablate") else 1 for words in SCENES[name].commands)
    return ground.made(name).seconds + IMPORTS_SECONDS * processes


def break_off(case: Case, name: str, folder: Path, way: str, at: float) -> bool:
    """Begin the scene's commands, end the one that runs ``at`` seconds later, and judge how it ended."""
    began = time.monotonic()
    for words in SCENES[name].commands:
        process = case.ground.start(words, folder, mark=case.folder.name)
        try:
            text, _ = process.communicate(timeout=max(0.0, at - (time.monotonic() - began)))
        except subprocess.TimeoutExpired:
            hit = end(case, process, way)
            judge_ended(case, words, process, way)
            return hit
        for fault in faults_of(Done(tuple(words), process.returncode, text, 0.0), (0,)):
            case.unhelpful(fault)
        if process.returncode:
            return False
    return False


def end(case: Case, process: subprocess.Popen[str], way: str) -> bool:
    """End a command in one of the `WAYS`; whether there was something to end."""
    group = process.pid
    with suppress(ProcessLookupError):
        if way == "kill parent":
            process.kill()
        elif way == "kill worker":
            workers = psutil.Process(process.pid).children(recursive=True)
            if not workers:
                process.kill()
                return True
            kill(case.rng.choice(sorted(workers, key=lambda worker: worker.pid)))
        elif way == "kill all":
            for each in marked(case.folder.name):
                kill(each)
        elif way == "term":
            os.kill(process.pid, signal.SIGTERM)
        elif way == "hang up":
            os.killpg(group, signal.SIGHUP)
        else:
            for _ in range({"ctrl-c": 1, "ctrl-c twice": 2, "ctrl-c held": 12}[way]):
                os.killpg(group, signal.SIGINT)
                time.sleep(case.rng.uniform(0.01, 0.4) if way == "ctrl-c twice" else 0.03)
    return True


def judge_ended(case: Case, words: tuple[str, ...], process: subprocess.Popen[str], way: str) -> None:
    """How a command must end that was ended so; that it had ended just before, with 0, is as good."""
    seconds = patience() if way == "kill worker" else patience(HEEDS_SECONDS)
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        case.unhelpful(f"{words[0]} goes on {seconds:.0f} s after: {way} (load {os.getloadavg()[0]:.1f})")
        for each in marked(case.folder.name):
            kill(each)
        process.communicate()
        return
    codes = {
        "kill parent": (-9,),
        "kill all": (-9,),
        "kill worker": (-9, 0, 1, 2),
        "term": (143, -15),
        "hang up": (129, -1),
    }.get(way, (130,))
    for fault in faults_of(Done(tuple(words), process.returncode, text, 0.0), (*codes, 0)):
        case.unhelpful(f"{fault} after: {way}")
    if process.returncode == 130 and WORDS not in text:
        case.unhelpful(f"{words[0]}: interrupted without a word: {text[-200:]!r}")
    judge_processes(case)


KIND = Kind("kills", short=(48, 37, 21), long=120, attempt=attempt)
