"""Checks recorded answers of AWS against botocore's own model of its API.

    check_answers.py FOLDER...

Every `*.json` file of a folder, except `event.json`, is named after the operation whose answer it holds, as the AWS CLI names it. The name
may be longer: `describe-target-health-web.json`. Prints each fault: a file of an unknown operation, a member that the operation's output
does not have, a value of a wrong type, a value that is not in its enumeration. Exits with 1 if there is a fault.
"""

import datetime
import json
import pathlib
import sys

import botocore.session
from botocore import xform_name


def operations():
    """The name of each operation in the AWS CLI, with the shape of its output; the longest name first."""
    session = botocore.session.get_session()
    found = {}
    for service in ("ecs", "elbv2", "logs"):
        model = session.get_service_model(service)
        for name in model.operation_names:
            output = model.operation_model(name).output_shape
            if output is not None:
                found.setdefault(xform_name(name).replace("_", "-"), output)
    return sorted(found.items(), key=lambda item: -len(item[0]))


def is_time(value):
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return True
    try:
        return datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None
    except (AttributeError, ValueError):
        return False


PLAIN = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "long": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "double": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "timestamp": is_time,
}


def faults(value, shape, path):
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, dict):
            yield f"{path} is not an object"
            return
        for key, item in value.items():
            if key not in shape.members:
                yield f"{path}.{key} is not in {shape.name}"
            else:
                yield from faults(item, shape.members[key], f"{path}.{key}")
    elif kind == "list":
        if not isinstance(value, list):
            yield f"{path} is not a list"
            return
        for index, item in enumerate(value):
            yield from faults(item, shape.member, f"{path}[{index}]")
    elif kind == "map":
        if not isinstance(value, dict):
            yield f"{path} is not an object"
            return
        for key, item in value.items():
            yield from faults(item, shape.value, f"{path}.{key}")
    elif not PLAIN[kind](value):
        yield f"{path} is {value!r}, not a {kind}"
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path} is {value!r}, not one of {shape.enum}"


def main():
    known = operations()
    count, wrong = 0, 0
    for folder in sys.argv[1:]:
        for file in sorted(pathlib.Path(folder).glob("*.json")):
            if file.name == "event.json":
                continue
            count += 1
            shape = next((shape for name, shape in known if file.stem == name or file.stem.startswith(name + "-")), None)
            answer = json.loads(file.read_text())
            found = ["no operation has this name"] if shape is None else list(faults(answer, shape, ""))
            wrong += len(found)
            for fault in found:
                print(f"{file}: {fault}")
    print(f"{count} answers, {wrong} faults")
    sys.exit(1 if wrong else 0)


main()
