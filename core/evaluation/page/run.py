"""The run that made the masks, from the records that infer_val.py keeps beside them."""

from __future__ import annotations

from core.evaluation.outcome import RunRecord
from core.evaluation.page.markup import Markup, tag


def run_section(run: RunRecord) -> Markup:
    """Command, commit, versions and configuration; what is missing is said to be."""
    content = []
    if run.environment is None:
        content.append(_absent(run, "environment.yaml", "command, commit and versions"))
    else:
        facts = {str(key): str(value) for key, value in run.environment.items()}
        if run.changed is not None:
            facts["changes"] = "diff.patch holds those since the commit" if run.changed else "none"
        rows = [tag("div", tag("dt", key), tag("dd", value)) for key, value in facts.items()]
        content.append(tag("dl", *rows))
    if run.config is None:
        content.append(_absent(run, "config.yaml", "the configuration"))
    else:
        summary = tag("summary", "Configuration (config.yaml)")
        content.append(tag("details", summary, tag("pre", run.config)))
    return tag("section", tag("h2", "The run that made the masks"), *content, id="run")


def _absent(run: RunRecord, name: str, what: str) -> Markup:
    text = f"There is no {name} in {run.folder}: {what} of the run are not known."
    return tag("p", text, class_="warning")
