"""The commands, options, keys and files that a page of the documentation names, and its mistakes.

A mistake is a line that names what does not exist. Commands are held against the parsers and the
launch scripts that would read them; nothing is run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from unittest import mock

from core.config import Config, load_config
from core.config_reading import flatten_fields
from utils.errors import UserError

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

SHELLS = ("bash", "console", "sh", "shell")
OTHER_PROGRAMS = ("cd", "cp", "git", "ls", "mkdir", "pip", "pre-commit")
OTHER_MODULES = ("jupyter", "pip", "pytest", "ruff", "tensorboard.main", "venv")
OTHER_OPTIONS = ("--help", "--standalone", "--nproc-per-node", "--no-verify")
# what the shell of any command may hold
ENVIRONMENT = {"PYTHON", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HOME", "TORCH_HOME"}
MACHINES = {"NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "GLOO_SOCKET_IFNAME"}  # with NNODES

OUR_FOLDERS = "benchmarks|configs|core|datasets|docs|launch|models|tests|utils"
OUR_FILE = re.compile(rf"(?!models/weights/)(?:{OUR_FOLDERS})/(?:[\w./-]+\.\w+|[\w./-]*/)")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.S)
KEY = re.compile(r"\b(?:TRAIN|TEST|DATASET|NET|MASKS)\.[A-Z][A-Z0-9_.]*[A-Z0-9]\b")
COMMAND = re.compile(r"(?:[A-Z_]+=\S* )*(?:bash launch/|torchrun |(?:\.venv/bin/)?python3? )\S")


def mistakes_of(page: str, has_additions: bool = False) -> list[str]:
    """What a page names and is not there.

    Args:
        page: Markdown.
        has_additions: the page itself adds values of configuration keys, so that these are unknown.
    """
    found = []
    for command in commands_of(page):
        found += [f"{command}: {each}" for each in mistakes_of_command(command, has_additions)]
    for code in inline_code_of(page):
        found += [f"`{code}`: {each}" for each in mistakes_of_code(code)]
    # Python runs elsewhere, and shows mistakes, too
    prose = re.sub(r"^```python$.*?^```$", "", page, flags=re.M | re.S)
    unknown = {key for key in KEY.findall(prose) if not _is_key(key)}
    return found + [f"there is no key {key}" for key in sorted(unknown)]


def blocks_of(page: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page, re.M | re.S)


def commands_of(page: str) -> list[str]:
    """The command lines of fenced shell blocks, indented blocks and inline code."""
    found = []
    for language, text in blocks_of(page):
        lines = text.replace("\\\n", " ").splitlines()
        if language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        if language in SHELLS:
            found += [line for line in lines if line.strip() and not line.startswith("#")]
    rest = _without_blocks(page)
    indented = re.findall(r"^ {4,}(\S.*)$", rest.replace("\\\n", " "), re.M)
    return found + [each for each in [*indented, *inline_code_of(page)] if COMMAND.match(each)]


def inline_code_of(page: str) -> list[str]:
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", _without_blocks(page))]


def _without_blocks(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S)


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The words between `&&`, `;` and `|`, without redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    is_target = False
    for word in lexer:
        if set(word) & set("<>") and set(word) <= set("<>&"):
            is_target = True
            if words and words[-1] in ("1", "2"):  # 2>&1
                words.pop()
        elif is_target:
            is_target = False
        elif set(word) <= set("();|&"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def mistakes_of_command(line: str, has_additions: bool = False) -> list[str]:
    """What a line of a shell names and is not there."""
    try:
        commands = [words for words in _simple_commands(line) if words]
    except ValueError as error:
        return [str(error)]
    found = [f"there is no {name}" for words in commands for name in _missing_files(words)]
    for words in commands:
        found += _mistakes_of_words(words)
        for pairs in _settings(words):
            found += _mistakes_of_pairs(pairs, has_additions)
    return found


def _missing_files(words: Sequence[str]) -> list[str]:
    values = [word.partition("=")[2] or word for word in words]
    return [each for each in values if OUR_FILE.fullmatch(each) and not (ROOT / each).exists()]


def _mistakes_of_words(words: list[str]) -> list[str]:
    assignments: dict[str, str] = {}
    while words and (match := ASSIGNMENT.fullmatch(words[0])):
        assignments[match[1]] = match[2]
        words = words[1:]
    if not words:
        return []
    program, *arguments = words
    if program == "bash":
        return _mistakes_of_script(assignments, *arguments)
    found = [f"nothing reads {name}" for name in assignments if name not in ENVIRONMENT]
    if program == "torchrun":
        return found + _mistakes_of_torchrun(arguments)
    if re.fullmatch(r"python(3(\.\d+)?)?", Path(program).name):
        return found + _mistakes_of_python(arguments)
    return found if program in OTHER_PROGRAMS else [*found, f"what is {program}?"]


def _mistakes_of_torchrun(arguments: list[str]) -> list[str]:
    script = next((place for place, word in enumerate(arguments) if word.endswith(".py")), None)
    if script is None:
        return ["torchrun without a script"]
    options = [word for word in arguments[:script] if word != "--"]
    return _unknown_options(options, _torchrun_options()) + _mistakes_of_python(arguments[script:])


def _mistakes_of_python(arguments: list[str]) -> list[str]:
    if arguments[:1] == ["-c"]:
        return []
    if arguments[:1] != ["-m"]:
        name, *arguments = arguments
        module = name.removesuffix(".py").replace("/", ".")
        if not (ROOT / name).is_file():
            return [f"there is no {name}"]
    else:
        _, module, *arguments = arguments
        if module in OTHER_MODULES:
            return []
        place = ROOT / module.replace(".", "/")
        if not (place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()):
            return [f"there is no module {module}"]
    if module == "core.torchrun":
        return _mistakes_of_torchrun(arguments)
    return _mistakes_of_arguments(module, arguments)


def _mistakes_of_arguments(module: str, arguments: list[str]) -> list[str]:
    """What the module's parser says; where there is an ellipsis, of the options alone.

    A program without arguments is mentioned, not run.
    """
    if not arguments:
        return []
    parser = parser_of(module)
    if any("…" in word or word == "..." for word in arguments):
        return _unknown_options(arguments, _options(parser))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(arguments)
    except SystemExit as end:
        return [said.getvalue().splitlines()[-1]] if end.code else []
    except UserError as error:
        return [str(error)]
    return []


def _mistakes_of_script(assignments: dict[str, str], script: str, *arguments: str) -> list[str]:
    path = ROOT / script
    if not path.is_file():
        return [f"there is no {script}"]
    known = settings_of(path) | ENVIRONMENT
    known |= MACHINES if "NNODES" in known else set()
    found = [f"{script} reads no {name}" for name in assignments if name not in known]
    for name, value in assignments.items():
        if name in ("CONFIG", "FILELIST"):
            found += [f"there is no {each}" for each in _missing_files([value])]
    words = [*shlex.split(assignments.get("EXTRA_ARGS", "")), *arguments]
    text = "\n".join(each.read_text() for each in _with_bodies(path))
    # a module that the script becomes gets all arguments; a door, those after the script's own
    if match := re.search(r'exec "\$PYTHON" -m ([\w.]+)', text):
        return found + _mistakes_of_arguments(match[1], words)
    refused = set(re.findall(r'"(--[\w-]+)=', text))
    if match := re.search(r"set_command (\w+)\.py|\$PYTHON\" (\w+)\.py", text):
        known_options = _options(parser_of(match[1] or match[2])) - refused
    else:
        known_options = set(re.findall(r"= (--[\w-]+)", text))
    return found + _unknown_options(words, known_options)


def settings_of(script: Path) -> set[str]:
    """The variables that a launch script takes, NAME=${NAME:-...} at its top."""
    return set(re.findall(r"^(\w+)=\$\{\1:-", script.read_text(), re.M))


def _with_bodies(script: Path) -> list[Path]:
    """The script and what it sources, but for common.sh, which calls nothing by itself."""
    bodies = re.findall(r'^source .*/(\w+_body\.sh)"', script.read_text(), re.M)
    return [script, *(script.with_name(name) for name in bodies)]


def _unknown_options(words: Sequence[str], known: set[str]) -> list[str]:
    given = [word.partition("=")[0] for word in words if re.match(r"--\w", word)]
    return [f"there is no option {option}" for option in given if option not in known]


def _settings(words: Sequence[str]) -> Iterator[list[str]]:
    """The words after each --set, in the command and in its EXTRA_ARGS."""
    extra = [shlex.split(word[11:]) for word in words if word.startswith("EXTRA_ARGS=")]
    for some in (words, *extra):
        for place, word in enumerate(some):
            if word == "--set":
                rest = some[place + 1 :]
                ends = [end for end, each in enumerate(rest) if each.startswith("--")]
                yield list(rest[: ends[0]] if ends else rest)


def _mistakes_of_pairs(pairs: list[str], has_additions: bool = False) -> list[str]:
    if has_additions:
        return [f"there is no key {key}" for key in pairs[::2] if not _is_key(key)]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            load_config(None, pairs)
    except UserError as error:
        return [str(error)]
    return []


def _is_key(name: str) -> bool:
    return any(name == key or key.startswith(f"{name}.") for key in flatten_fields(Config))


def mistakes_of_code(code: str) -> list[str]:
    """What a piece of inline code names and is not there; commands are checked elsewhere."""
    if COMMAND.match(code):
        return []
    first = code.split()[0]
    if re.match(r"--\w", first) and first.partition("=")[0] not in all_options():
        return ["there is no such option"]
    if (match := re.fullmatch(r"([A-Z][A-Z_]{2,})=\S*", first)) and match[1] not in all_settings():
        return ["no launch script reads it"]
    if re.fullmatch(r"\w+\.sh", code) and not (ROOT / "launch" / code).is_file():
        return ["there is no such script"]
    if OUR_FILE.fullmatch(code) and not (ROOT / code).exists():
        return ["there is no such file"]
    return [f"there is no {each}" for each in _patterns(code) if not any(ROOT.glob(each))]


def _patterns(code: str) -> list[str]:
    """What `launch/run_{voc,coco}_*.sh` stands for, as glob takes it; nothing for other code."""
    if not re.fullmatch(rf"(?:{OUR_FOLDERS})/[\w./*{{}},-]*[*{{][\w./*{{}},-]*", code):
        return []
    if not (match := re.search(r"\{([^{}]*)\}", code)):
        return [code]
    words = [code.replace(match[0], word, 1) for word in match[1].split(",")]
    return [each for word in words for each in (_patterns(word) or [word])]


@cache
def all_settings() -> set[str]:
    scripts = [settings_of(path) for path in (ROOT / "launch").glob("*.sh")]
    return set().union(ENVIRONMENT, MACHINES, *scripts)


@cache
def all_options() -> set[str]:
    """What stands as an option in any program of ours; importing all of them would take long."""
    found = {*OTHER_OPTIONS, "--tests"}
    for folder in ("core", "datasets", "benchmarks"):
        for path in [*ROOT.glob("*.py"), *(ROOT / folder).glob("**/*.py")]:
            text = path.read_text(encoding="utf-8")
            if "add_argument" in text:
                found.update(re.findall(r'"(--[a-z][\w-]*)"', text))
                switches = re.findall(r'"--([\w-]+)",\s*action=argparse.Boolean', text)
                found.update(f"--no-{name}" for name in switches)
    return found


class _CapturedError(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


@cache
def parser_of(module: str) -> argparse.ArgumentParser:
    """The parser that a program builds, taken where it would parse."""

    def parse_args(self: argparse.ArgumentParser, *_: object) -> None:
        raise _CapturedError(self)

    if (ROOT / module.replace(".", "/") / "__main__.py").is_file():
        module += ".__main__"
    program = importlib.import_module(module)
    build = getattr(program, "parse_args", None) or program.main
    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args):
        try:
            build()
        except _CapturedError as captured:
            return captured.parser
    raise AssertionError(f"{module} parses no arguments")


def _options(parser: argparse.ArgumentParser) -> set[str]:
    return set(parser._option_string_actions)


@cache
def _torchrun_options() -> set[str]:
    from torch.distributed.run import get_args_parser  # not at the top: it imports PyTorch

    return _options(get_args_parser())
