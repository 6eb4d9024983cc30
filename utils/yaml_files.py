"""Reading YAML files that people write, with errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

import yaml

from utils.errors import UserError


class _UniqueKeysLoader(yaml.SafeLoader):
    """PyYAML's own takes the last of several values of a key, and says nothing of the others."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        scalars = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in scalars:
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value} is there twice; remove one",
                    problem_mark=key.start_mark,
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str, example: str) -> dict[Any, Any]:
    """The mapping in a YAML file; an empty file has an empty one.

    Args:
        path: the file.
        what: it is, as "the configuration", for errors.
        example: of what it holds, as "sections such as `NET:`", for errors.

    Raises:
        UserError: the file cannot be read, holds something else, or a key twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeysLoader)
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not UTF-8 text: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line} is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2020-99-99
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected {example}, found {short_repr(content)}")
    return content
