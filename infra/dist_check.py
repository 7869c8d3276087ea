"""Checks the files in dist/. Needs nothing but Python.

    dist_check.py binary NAME REVISION              checks the files that infra/dist.sh made
    dist_check.py image ARCHIVE VERSION REVISION    checks the image that infra/image.sh made
"""

import hashlib
import io
import json
import pathlib
import struct
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zlib


def sections(elf: bytes) -> dict[str, bytes]:
    """The sections of a 64-bit little-endian ELF file, by name."""
    assert elf[:6] == b"\x7fELF\x02\x01", "the program is not a 64-bit little-endian ELF file"
    (start,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, start + size * n) for n in range(count)]
    strings = elf[headers[names][4] :]
    return {strings[h[0] : strings.index(b"\0", h[0])].decode(): elf[h[4] : h[4] + h[5]] for h in headers}


def binary(name: str, revision: str) -> None:
    dist = pathlib.Path("dist")
    arch = name.rsplit("-", 1)[1]
    sums = dict(reversed(line.split()) for line in (dist / f"SHA256SUMS-{arch}").read_text().splitlines())
    made = {f"{name}.tar.gz", f"{name}.cdx.json"}
    assert sums.keys() == made, f"SHA256SUMS lists {sorted(sums)} instead of {sorted(made)}"
    for file, expected in sums.items():
        assert hashlib.sha256((dist / file).read_bytes()).hexdigest() == expected, f"{file} does not have its checksum"

    with tempfile.TemporaryDirectory() as folder, tarfile.open(dist / f"{name}.tar.gz") as archive:
        assert archive.getnames() == ["ecs-slack-alerts", "LICENSE"], f"the archive holds {archive.getnames()}"
        archive.extractall(folder, filter="data")
        program = pathlib.Path(folder, "ecs-slack-alerts")
        elf = sections(program.read_bytes())
        assert ".interp" not in elf, "the program needs a dynamic linker, so it is not static"
        package = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["package"]
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        assert said == f"ecs-slack-alerts {package['version']}", f"--version says {said}"
        assert revision.encode() in program.read_bytes(), f"the program does not contain the commit {revision}"

    # Three lists of crates: in the program, those that were linked; in the SBOM; in Cargo.lock, which has the most.
    embedded = json.loads(zlib.decompress(elf[".dep-v0"]))["packages"]
    linked = {(p["name"], p["version"]) for p in embedded if p.get("kind", "runtime") == "runtime"}
    sbom = json.loads((dist / f"{name}.cdx.json").read_text())
    listed = {(c["name"], c["version"]) for c in [sbom["metadata"]["component"], *sbom["components"]]}
    locked = {(p["name"], p["version"]) for p in tomllib.loads(pathlib.Path("Cargo.lock").read_text())["package"]}
    assert linked <= listed, f"the SBOM lacks {sorted(linked - listed)}"
    assert listed <= locked, f"the SBOM lists crates that Cargo.lock does not have: {sorted(listed - locked)}"
    direct = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["dependencies"]
    assert direct.keys() <= {name for name, _ in linked}, f"dependencies that are not in the program: {sorted(direct.keys() - {n for n, _ in linked})}"
    print(f"{name}: static, {len(linked)} crates inside, {len(listed)} in the SBOM")


def image(file: str, version: str, revision: str) -> None:
    with tarfile.open(file) as archive:
        read = lambda member: archive.extractfile(member).read()
        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        files = {}
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(read(layer))) as content:
                files |= {m.name: content.extractfile(m).read() for m in content if m.isfile()}
    assert files.keys() == {"ecs-slack-alerts", "etc/ssl/certs/ca-certificates.crt"}, f"the image holds {sorted(files)}"
    assert files["ecs-slack-alerts"] == pathlib.Path("target/dist/ecs-slack-alerts").read_bytes(), "the image holds another program than the archive"
    config = config["config"]
    expected = {"version": version, "revision": revision, "licenses": "Apache-2.0", "title": "ecs-slack-alerts"}
    labels = {key: config["Labels"].get(f"org.opencontainers.image.{key}") for key in expected}
    assert labels == expected, f"the labels are {labels}"
    assert config["User"] == "65532:65532" and config["Healthcheck"]["Test"][1:] == ["/ecs-slack-alerts", "health"], config
    print(f"{file}: the program of the archive and CA certificates; labels, user and health check are set")


{"binary": binary, "image": image}[sys.argv[1]](*sys.argv[2:])
