"""Checks each line of a file against OCSF's own schema, unknown fields included: check.py FILE."""

import json
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

VERSION = "1.8.0"


def main(path: str) -> int:
    schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    wrong = checked = 0
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            event = json.loads(line)
            profiles = event["metadata"].get("profiles", [])
            name = schemas.lookup_class_name_from_uid(event["class_uid"])
            schema = schemas.get_class_schema(name, profiles)
            checked += 1
            for error in Draft202012Validator(schema).iter_errors(event):
                wrong += 1
                print(f"line {number}: {error.json_path}: {error.message[:300]}")
    print(f"{checked} lines, {wrong} mistakes, OCSF {VERSION}")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
