#!/usr/bin/env python3
"""The scene that record-bulk.sh has played: record-bulk.py FOLDER PINGONE.

Writes a file of rows to FOLDER, has the simulator at PINGONE not know four of their devices, and prints the scene.
"""

import json
import sys
import urllib.request
import uuid

ENVIRONMENT = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6"
ROWS = 240
BY_USER = range(20, 240, 20)
UNKNOWN = (37, 101, 158, 226)


def identifier(text):
    """Always the same for the same text."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def forget(pingone, device):
    fault = {"fault": "status", "status": 404}
    plan = {"device": device, "on": "any", "faults": [fault], "rounds": None}
    request = urllib.request.Request(f"{pingone}/control/faults", json.dumps(plan).encode(), method="POST")
    urllib.request.urlopen(request, timeout=10).close()


def main():
    folder, pingone = sys.argv[1:]
    with open(f"{folder}/team.csv", "w", encoding="utf-8") as file:
        file.write("environment_id,user_id,device_id,reference\n")
        for row in range(1, ROWS + 1):
            user, device = identifier(f"user {row}"), identifier(f"device {row}")
            device = "" if row in BY_USER else device
            file.write(f"{ENVIRONMENT},{user},{device},INC-{row:04}\n")
    for row in UNKNOWN:
        forget(pingone, identifier(f"device {row}"))

    bulk = "pingone-unblock bulk team.csv --reason outage --ticket INC-4711"
    look = "grep -v ,unblocked, team.results.csv | cut -d, -f4-6"
    scene = {
        "columns": 100,
        "rows": 30,
        "folder": folder,
        "title": "pingone-unblock bulk, recorded",
        "description": f"{ROWS} rows of a file are shown, confirmed by typing their number, sent at 20 requests per second"
        f" behind a progress bar, and written down; {len(UNKNOWN)} were not unblocked.",
        "seconds_at_the_end": 8,
        "steps": [
            {"wait": r"^\$", "type": bulk},
            {"wait": r"to go on: *$", "type": str(ROWS)},
            {"wait": r"try again[^$]*^\$", "type": look},
        ],
        "end": r"INC-0226[^\n]*\n\$",
    }
    print(json.dumps(scene))


main()
