"""Makes the bill of materials that cargo-cyclonedx wrote true, and proves it: sbom.py WRITTEN BUILT CARGO.LOCK RESULT.

Cargo's metadata, which it is written from, name packages that a feature would bring if another were on, such as ring; what cargo tree says
(BUILT) is what is compiled. The result holds those packages, all of them, with the hashes of Cargo.lock, and is valid CycloneDX 1.5."""

import json
import sys
import tomllib
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

written, tree, lock, result = map(Path, sys.argv[1:])
OWN = "pingone-unblock"


def main():
    built = {tuple(line.split()[:2]) for line in tree.read_text().splitlines()}
    built = {(name, version.removeprefix("v")) for name, version in built} - {own(built)}
    bill = json.loads(written.read_text().replace(f"file://{Path.cwd()}", "file:///src"))
    bill["components"] = [part for part in bill["components"] if (part["name"], part["version"]) in built]
    kept = {part["bom-ref"] for part in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    bill["dependencies"] = [
        {**each, "dependsOn": [on for on in each.get("dependsOn", []) if on in kept]}
        for each in bill["dependencies"]
        if each["ref"] in kept
    ]
    text = json.dumps(bill, indent=2) + "\n"

    listed = {(part["name"], part["version"]) for part in bill["components"]}
    hold(len(listed) > 100, f"only {len(listed)} packages are listed")
    hold(not built - listed, f"built, but not listed: {sorted(built - listed)}")
    locked = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.loads(lock.read_text())["package"]}
    for part in bill["components"]:
        hashes = [each["content"] for each in part.get("hashes", []) if each["alg"] == "SHA-256"]
        hold(hashes == [locked[part["name"], part["version"]]], f"{part['name']} has another hash than in Cargo.lock")
        hold(part.get("licenses"), f"{part['name']} has no licence")
    hold({each["ref"] for each in bill["dependencies"]} == kept, "the graph does not name each package once")
    invalid = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    hold(invalid is None, f"not CycloneDX 1.5: {invalid}")
    result.write_text(text)
    print(f"{result}: {len(listed)} packages, as many as are built, with their licences and the hashes of Cargo.lock")


def own(built):
    version = next(version for name, version in built if name == OWN)
    return OWN, version.removeprefix("v")


def hold(what, otherwise):
    if not what:
        sys.exit(f"the bill of materials: {otherwise}")


main()
