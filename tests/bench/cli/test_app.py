from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.core.hashing import hash_file
from tests.processes import Place, bench, tiny_run, without_torch
from tests.shell import Shell, heeding_modes

RUN = ("run", "--methods", "msa", "--task", "muse-books", "--track", "none", "--store", "store", "--out", "out")
ABLATE = ("ablate", "--track", "none", "--store", "store", "--out", "out")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*RUN, "--methods", "mas"), "Unknown method 'mas'. Did you mean 'msa'?"),
        ((*RUN, "--task", "restore"), "Unknown task 'restore'. Did you mean 'restor'?"),
        ((*RUN, "--set", "msa.alpha=-0.5"), "msa.alpha must not be negative."),
        ((*RUN, "--set", "msa.alpha=NaN"), "--set msa.alpha=NaN: the value must be a finite number."),
        ((*RUN, "--set", "msa.weights=foo"), "Unknown value of msa.weights 'foo'. Known: fisher, gradient, "),
        ((*RUN, "--set", "msa.before=foo=1"), "msa.before: 'foo=1' chooses no checkpoint; write last-before-exposure"),
        ((*RUN, "--set", "msa.until=-0.5"), "msa.until must not be negative."),
        ((*RUN, "--set", "muse-books.gap_steps=5"), "set muse-books.later to at least 1."),
        (
            (*RUN, "--set", "muse-books.noise_inside=1"),
            "muse-books.noise_inside is a share from 0 to below 1, not 1.0.",
        ),
        ((*RUN, "--set", "ga.lr=1"), "--set ga.lr=1: ga takes no part here"),
        ((*RUN, "--seeds", "0,x"), "--seeds 0,x: write whole numbers or ranges, comma-separated"),
        ((*RUN, "--seeds", "1.5"), "--seeds 1.5: write whole numbers or ranges, comma-separated"),
        ((*RUN, "--seeds", "-1"), "--seeds -1: a seed is 0 or more"),
        ((*RUN, "--seeds", "99999999999"), "--seeds 99999999999: a seed is 0 or more, and below 2147483648."),
        ((*RUN, "--seeds", "0,0"), "--seeds names a seed twice."),
        ((*RUN, "--seeds", ""), "--seeds needs at least one whole number"),
        ((*RUN, "--limit", "0"), "--limit must be at least 1, not 0."),
        ((*RUN, "--task", "tofu", "--model", "nosuch"), "Unknown model 'nosuch'."),
        ((*RUN, "--data", "somewhere"), "--data goes with --model"),
        ((*RUN, "--device", "tpu"), "--device tpu: there are cpu, cuda and cuda:N."),
        ((*RUN, "--jobs", "0"), "--jobs and --threads are at least 1."),
        ((*RUN, "--threads", "-1"), "--jobs and --threads are at least 1."),
        ((*RUN, "--track", "mlflow"), "Unknown tracker 'mlflow'. Known: none, tensorboard, wandb."),
        (("exec", "spec.json"), "'spec.json' is not a run's spec"),
        (("exec",), "exec needs the file of a run's spec."),
        (("ls", "method"), "Unknown listing 'method'. Did you mean 'methods'?"),
        (("show", "msa"), "There is no folder 'runs'"),
        (("leaderboard", "--from", "nowhere"), "There is no folder 'nowhere'"),
        (("plot", "--from", "nowhere"), "There is no folder 'nowhere'"),
        (("rescore", "--from", "nowhere"), "There is no folder 'nowhere'"),
        (("publish", "--from", "nowhere"), "There is no folder 'nowhere'"),
        (("fetch", "nosuch"), "nosuch"),
        (("tune", "--methods", "mas", "--task", "tofu"), "Unknown method 'mas'. Did you mean 'msa'?"),
        (("plan", "--methods", "mas", "--task", "tofu"), "Unknown method 'mas'. Did you mean 'msa'?"),
        (ABLATE, "Name an ablation, or 'all'; `python -m bench ablate --list` lists them."),
        ((*ABLATE, "control"), "Unknown ablation 'control'. Did you mean 'controls'?"),
        ((*ABLATE, "controls", "--task", "tofuu"), "Unknown task 'tofuu'. Did you mean 'tofu'?"),
        ((*ABLATE, "controls", "--set", "msa.alpha=1"), "--set msa.alpha=1: msa takes no part here; leave this out"),
        ((*ABLATE, "controls", "--set", "tofu.width=0"), "tofu.width must be at least 1, not 0."),
        ((*ABLATE, "controls", "--seeds", "0,x"), "--seeds 0,x: write whole numbers or ranges, comma-separated"),
        ((*ABLATE, "controls", "--seeds", "0,0"), "--seeds names a seed twice."),
        ((*ABLATE, "controls", "--seeds", ""), "--seeds needs at least one whole number"),
    ],
)
def test_a_mistake_is_one_sentence_exit_2_and_nothing_written(
    words: Sequence[str], sentence: str, shell: Shell
) -> None:
    said = shell(*words)
    assert said.code == 2 and said.out == ""
    [error] = said.errors
    assert sentence in error and len(said.err.splitlines()) == 1
    assert shell.written() == []


@pytest.mark.parametrize(
    "words",
    [
        (*RUN, "--metods", "msa"),
        (*RUN, "--limit", "few"),
        (*RUN, "--jobs", "many"),
        ("run", "--task", "tofu"),
        ("run", "--methods", "msa"),
        ("runn",),
        ("show",),
        ("leaderboard", "--chekc"),
    ],
)
def test_a_mistyped_command_line_is_exit_2(words: Sequence[str], shell: Shell) -> None:
    said = shell(*words)
    assert said.code == 2 and said.out == "" and "Usage: python -m bench" in said.err and "Error: " in said.err
    assert shell.written() == []


@pytest.mark.parametrize("option", ["--store", "--out"])
def test_a_file_where_a_folder_should_be_is_a_mistake(option: str, shell: Shell) -> None:
    (shell.folder / "notes.txt").write_text("mine")
    said = shell(*RUN, option, "notes.txt")
    assert said.code == 2 and "notes.txt: 'notes.txt' is a file and no folder; choose another place." in said.errors[0]
    assert shell.written() == ["notes.txt"] and (shell.folder / "notes.txt").read_text() == "mine"


PLACES = (
    ("run", "--methods", "ga", "--task", "tofu", "--track", "none", "--store", "store", "--out"),
    ("run", "--methods", "ga", "--task", "tofu", "--track", "none", "--out", "out", "--store"),
    ("plan", "--methods", "ga", "--task", "tofu", "--store", "store", "--out"),
    ("plan", "--methods", "ga", "--task", "tofu", "--out", "out", "--store"),
    ("tune", "--methods", "ga", "--task", "tofu", "--store", "store", "--out"),
    ("ablate", "distance", "--task", "tofu", "--track", "none", "--store", "store", "--out"),
    ("reproduce", "t1-tofu01", "--scale", "smoke", "--store", "store", "--out"),
    ("publish", "--from", "records", "--to"),
    ("plot", "--from", "records", "--to"),
    ("import", "open-unlearning", "notes.txt", "--out"),
    ("fetch", "tofu", "--store"),
    ("continue", "--model", "m", "--text", "notes.txt", "--out"),
    ("eval", "--task", "qa", "--model", "m", "--data", "d", "--out"),
    ("leaderboard", "--from", "records", "--to"),
    ("claims", "--from", "records", "--to"),
    ("reproduce", "--page"),
)


@pytest.mark.parametrize("place", ["notes.txt/below", "/proc/x", "x" * 300])
@pytest.mark.parametrize("words", PLACES, ids=lambda words: f"{words[0]} {words[-1]}")
def test_a_place_that_cannot_be_written_is_a_sentence_before_any_work(
    words: Sequence[str], place: str, shell: Shell
) -> None:
    (shell.folder / "notes.txt").write_text("mine")
    (shell.folder / "records").mkdir()
    said = shell(*words, place)
    assert said.code == 2 and len([line for line in said.errors if "choose another place" in line]) == 1, said.err
    assert place in said.errors[0] and "Traceback" not in said.err
    assert shell.written() == ["notes.txt", "records"]


@pytest.mark.parametrize("option", ["--model", "--oracle", "--reference"])
def test_a_mistyped_folder_is_answered_with_those_beside_it(option: str, shell: Shell) -> None:
    (shell.folder / "models" / "phi-tuned").mkdir(parents=True)
    others = () if option == "--model" else ("--model", "nosuch")
    said = shell("eval", "--task", "qa", *others, "--data", "d", "--out", "o.json", option, "./models/phi-tuend")
    [line] = [line for line in said.errors if line.startswith(f"{option}: ") and "phi-tuend" in line]
    assert said.code == 2 and "There is no folder './models/phi-tuend': the nearest folders in" in line
    assert line.endswith("are phi-tuned.") and "Known" not in line


def test_every_kind_of_mistake_is_told_at_once(shell: Shell) -> None:
    said = shell(
        *("run", "--methods", "npo,msaa", "--task", "restor", "--seeds", "0,x", "--limit", "-1", "--device", "tpu"),
        *("--set", "npo.betta=1", "--set", "restor.width=wide", "--track", "mlflow", "--data", "d", "--jobs", "0"),
    )
    assert said.code == 2 and shell.written() == []
    expected = [
        "--seeds",
        "--device",
        "--jobs",
        "tracker",
        "method 'msaa'",
        "--limit",
        "--data",
        "betta",
        "restor.width",
    ]
    assert len(said.errors) == len(expected)
    assert all(any(word in error for error in said.errors) for word in expected)


def test_mistakes_load_no_torch_and_print_no_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    forbidden = [without_torch(tmp_path)]
    real = ("run", "--methods", "msa,nop", "--task", "tofu", "--model", "nosuch", "--data", "nowhere", "--seeds", "x")
    for words, count in ((real, 4), ((*RUN, "--set", "msa.alpha=nan", "--limit", "0"), 2)):
        done = bench(words, folder, forbidden)
        assert done.returncode == 2 and done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == count and all(line.startswith("error: ") for line in lines), done.stderr
    assert list(folder.iterdir()) == []


def test_help_names_every_command(shell: Shell) -> None:
    said = shell("--help")
    assert said.code == 0
    for command in (
        "run",
        "plan",
        "tune",
        "leaderboard",
        "plot",
        "ls",
        "show",
        "doctor",
        "publish",
        "rescore",
        "fetch",
    ):
        assert f"\n  {command} " in said.out, command


def test_a_cached_run_is_shown_as_cached_and_exits_0(finished: Place, shell: Shell) -> None:
    place = finished.copy(shell.folder)
    said = shell(*tiny_run(command="plan"), *place.words)
    assert said.code == 0 and said.out.count("cached") == 3 and "start-up" not in said.out
    found = json.loads(shell(*tiny_run(command="plan"), *place.words, "--json").out)
    assert [entry["status"] for entry in found["runs"]] == 3 * ["cached"] and found["expected"] == [0.0, 0.0]


def test_a_history_in_the_lab_is_a_mistake(shell: Shell) -> None:
    assert "--history goes with --model: the lab makes its own history." in shell(*RUN, "--history", "x").errors


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((*RUN, "--out", "out"), "--store store: nodes: "),
        (("prune", "--out", "out", "--store", "store"), "--store store: nodes: "),
        (("plan", *RUN[1:5], "--store=store", "--out=out"), "--store store: nodes: "),
    ],
    ids=lambda words: words[0],
)
def test_what_may_not_be_read_is_named_by_its_option_wherever_temporary_files_lie(
    words: Sequence[str], named: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of temporary files may be one above all others."""
    monkeypatch.setenv("TMPDIR", str(shell.folder))
    (shell.folder / "out").mkdir()
    (shell.folder / "store" / "nodes").mkdir(parents=True)
    (shell.folder / "store" / "nodes").chmod(0)
    try:
        with heeding_modes():
            said = shell(*words)
    finally:
        (shell.folder / "store" / "nodes").chmod(0o755)
    [line] = said.errors
    assert said.code == 2 and line.startswith(named) and "permission is denied" in line, line


def test_short_words_and_versions(shell: Shell) -> None:
    assert shell("-h").out == shell("--help").out and "compare" in shell("-h").out
    assert shell("sho", "-h").out.splitlines()[1:] == shell("show", "-h").out.splitlines()[1:], "only one begins so"
    assert shell("r", "-h").code == 2, "run, rescore and reproduce begin so"
    said = shell("--version")
    assert said.code == 0 and said.out.startswith("msa-bench ") and "torch " in said.out
    assert "--plugin" in shell("run", "-h").out and "--plugin" not in shell("show", "-h").out


def test_a_name_may_be_cut_as_long_as_it_is_one_names(shell: Shell) -> None:
    words = ("--seeds", "0", "--store", "store", "--out", "out")
    whole = shell("plan", "--methods", "graddiff,npo@small-retain", "--task", "muse-books", *words)
    cut = shell("plan", "-m", "gradd,np@small-retain", "-t", "muse", *words)
    assert whole.code == 0 and cut.out == whole.out
    both = shell("plan", "-m", "rew,re", "-t", "muse", *words)
    assert both.code == 2 and both.errors == [both.errors[0]] and both.errors[0].startswith("Unknown method 're'.")


PLUGIN = """
from dataclasses import dataclass
from bench.api import Method

@dataclass(frozen=True)
class Shrink(Method):
    "theta times a share."

    share: float = 0.95
    "What is left."

    summary = "weights scaled down"

    def unlearn(self, request, ctx):
        return ctx.combine([(self.share, request.target)], "shrink")
"""


@pytest.mark.slow(30)
def test_a_method_in_a_file_is_run_edited_and_pruned_without_packaging(tmp_path: Path) -> None:
    """In a folder with a ``tasks.py``: by worker processes. The newest code makes the row, and a failure names its line."""
    place, file = Place(tmp_path), tmp_path / "shrink.py"
    (tmp_path / "tasks.py").write_text("raise AssertionError('of the user')")
    file.write_text(PLUGIN)
    done = place.run("./shrink.py:Shrink")
    assert done.returncode == 0, done.stdout + done.stderr
    [first] = place.out.rglob("shrink-*.json")
    assert json.loads(first.read_text())["spec"]["hashes"] == {"code of shrink": hash_file(file)}
    time.sleep(1.1)  # records say when to the second
    file.write_text(PLUGIN.replace("(self.share,", "(self.share / 2,"))
    done = place.run("shrink", "--plugin", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    line = "1 record is left out, made by older code of shrink: python -m bench prune --out {} removes such records."
    assert line.format(place.out) in done.stdout.splitlines() and "none (no finished run)" not in done.stdout
    [second] = set(place.out.rglob("shrink-*.json")) - {first}
    page = (place.out / "tables" / "lab-muse-books.md").read_text()
    assert "This section is refused" not in page and "made by older code of shrink" in page and "\n| shrink" in page
    listed = bench(["ls", "runs", "--from", str(place.out), "--method", "shrink"], tmp_path).stdout.splitlines()
    assert sorted(row.split()[0] for row in listed[1:3]) == ["done", "older"]
    bench(["prune", "--yes", *place.words], tmp_path)
    assert second.is_file() and not first.exists()
    file.write_text(PLUGIN.replace("return ctx", "lost = [][3]\n        return ctx"))
    done = place.run("./shrink.py")
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert line.startswith(
        "FAILED shrink seed 0: IndexError: list index out of range (shrink.py, line 15: lost = [][3]); see: "
    )
    words = line.partition("python -m bench ")[2].split()
    assert "lost = [][3]" in bench(words, tmp_path).stdout
