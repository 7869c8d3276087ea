#!/usr/bin/env python3
"""Writes the tables of inputs and outputs into the modules' READMEs, from variables.tf and outputs.tf, which must be
formatted by `terraform fmt`. With --check it changes nothing, and fails if a README is out of date."""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
BLOCK = re.compile(r'^(?:variable|output) "(\w+)" \{\n(.*?)^\}', re.M | re.S)


def attribute(body, name):
    """The text of an attribute, on one line, or None."""
    found = re.search(rf"^  {name} += (.*?)(?=^  \w|^$|\Z)", body, re.M | re.S)
    return re.sub(r"\s+", " ", found[1]).strip() if found else None


def description(body):
    return attribute(body, "description")[1:-1].replace('\\"', '"').replace("|", "\\|")


def tables(module):
    inputs = BLOCK.findall((module / "variables.tf").read_text())
    yield "## Inputs\n\n| name | description | type | default |\n|---|---|---|---|"
    for name, body in inputs:
        default = attribute(body, "default")
        yield f"| `{name}` | {description(body)} | `{attribute(body, 'type')}` | {f'`{default}`' if default else 'required'} |"
    yield "\n## Outputs\n\n| name | description |\n|---|---|"
    for name, body in BLOCK.findall((module / "outputs.tf").read_text()):
        yield f"| `{name}` | {description(body)} |"


stale = []
for module in (HERE, HERE / "modules/messaging", HERE / "modules/worker"):
    readme = module / "README.md"
    old = readme.read_text()
    new = old.split("## Inputs\n")[0] + "\n".join(tables(module)) + "\n"
    if new != old:
        stale.append(str(readme))
        if "--check" not in sys.argv:
            readme.write_text(new)
if stale and "--check" in sys.argv:
    sys.exit(f"out of date: {', '.join(stale)}; run {__file__}")
