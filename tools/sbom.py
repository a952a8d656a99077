"""Write the bill of materials of the image's Python packages (CycloneDX 1.6, JSON).

    python -m tools.sbom > dist/containerdns.cdx.json

It is made from the lock alone, so that it is the same wherever and whenever it is made: it has
no serial number and no time, which CycloneDX leaves to choice.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKED = re.compile(r"^([\w.-]+)==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*\\?$")  # name, version, marker
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def sbom() -> dict[str, Any]:
    """Return the document: containerdns, and each package that is locked for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = list(components((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    direct = {_normal(re.split(r"[<>=!~\[; ]", text)[0]) for text in project["dependencies"]}
    root = f"pkg:pypi/containerdns@{project['version']}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "containerdns",
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": root,
            }
        },
        "components": packages,
        "dependencies": [
            {"ref": root, "dependsOn": [p["bom-ref"] for p in packages if p["name"] in direct]}
        ],
    }


def components(lock: str) -> Iterator[dict[str, Any]]:
    """Yield a component for each package of a lock file with hashes (`pip --require-hashes`)."""
    for block in re.split(r"\n(?=\S)", lock):
        found = LOCKED.match(block.partition("\n")[0])
        if found is None:
            continue
        name, version, marker = _normal(found[1]), found[2], found[3]
        purl = f"pkg:pypi/{name}@{version}"
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"https://pypi.org/project/{name}/{version}/#files",
                    "hashes": [{"alg": "SHA-256", "content": h} for h in HASH.findall(block)],
                }
            ],
        }
        if marker:  # installed on some systems only
            component["scope"] = "optional"
            component["properties"] = [{"name": "containerdns:marker", "value": marker}]
        yield component


def _normal(name: str) -> str:
    """Return a package's name as PyPI's index has it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    json.dump(sbom(), sys.stdout, indent=2)
    print()
