"""The bill of materials, held to the lock that it is made from."""

import re
import tomllib
from pathlib import Path

from tools.sbom import components, sbom

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_every_locked_package_is_a_component_with_all_its_hashes() -> None:
    made = sbom()["components"]
    assert len(made) == len(re.findall(r"^[\w.-]+==", LOCK, re.MULTILINE)) > 10
    hashes = [h["content"] for c in made for r in c["externalReferences"] for h in r["hashes"]]
    assert hashes == re.findall(r"sha256:([0-9a-f]{64})", LOCK)
    assert len({c["bom-ref"] for c in made}) == len(made)


def test_root_depends_on_what_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    made = sbom()
    (root,) = made["dependencies"]
    assert root["ref"] == made["metadata"]["component"]["bom-ref"]
    assert len(root["dependsOn"]) == len(project["dependencies"])
    assert set(root["dependsOn"]) <= {c["bom-ref"] for c in made["components"]}


def test_package_for_some_systems_only_is_optional() -> None:
    lock = (
        f'Some_Thing==1.2 ; python_full_version < "3.12" \\\n    --hash=sha256:{64 * "0"}\n'
        f"other==3 \\\n    --hash=sha256:{64 * '1'} \\\n    --hash=sha256:{64 * '2'}\n"
    )
    some, other = components(lock)
    assert (some["name"], some["version"], some["scope"]) == ("some-thing", "1.2", "optional")
    assert some["properties"][0]["value"] == 'python_full_version < "3.12"'
    assert "scope" not in other
    assert len(other["externalReferences"][0]["hashes"]) == 2
