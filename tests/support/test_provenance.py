"""What results record about their making."""

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from hps.support import provenance
from hps.support.errors import InputError


def test_record_is_json_and_names_what_it_was_made_from(tmp_path):
    data = tmp_path / "data.txt"
    data.write_text("x")
    record = provenance.collect({"beta": 0.1, "out": Path("a/b")}, [data])
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["settings"] == {"beta": 0.1, "out": "a/b"}
    assert record["inputs"] == {str(data): hashlib.sha256(b"x").hexdigest()}
    assert record["packages"]["torch"].startswith("2.")
    assert set(record["packages"]) <= set(provenance.PACKAGES)
    assert f"torch-{record['packages']['torch']}" in record["installed"].split()
    installed = [name.rpartition("-")[0].lower() for name in record["installed"].split()]
    assert {name.lower().replace("-", "_") for name in record["packages"]} <= set(installed)
    assert installed == sorted(installed)
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(record["time"]) < timedelta(minutes=1)


def test_no_package_is_imported_for_it():
    code = (
        "import sys; sys.path.insert(0, 'workflow_scripts'); from hps.support import provenance\n"
        "provenance.collect({}, [])\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_gpus_are_recorded_with_their_driver_and_torchs_cuda(tmp_path, monkeypatch):
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 2, get_device_name=lambda number: f"L40S {number}"
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="13.0")))
    monkeypatch.setattr(provenance, "DRIVER", tmp_path / "version")
    assert provenance.gpus() == {"names": ["L40S 0", "L40S 1"], "cuda": "13.0", "driver": None}
    provenance.DRIVER.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n")
    assert provenance.gpus()["driver"] == "580.65.06"
    cuda.is_available = lambda: False
    assert provenance.gpus() is None
    monkeypatch.delitem(sys.modules, "torch")
    assert provenance.gpus() is None


def test_missing_input_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        provenance.collect({}, [tmp_path / "nothing"])


def test_folder_is_known_by_its_model_json_or_by_its_files(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    (tmp_path / ".snakemake_timestamp").touch()
    (tmp_path / "big.bin").write_bytes(b"12345")
    monkeypatch.setattr(provenance, "SMALL", 4)
    assert provenance.fingerprint(tmp_path) == {
        "big.bin": "5 bytes",
        "sub/a.txt": hashlib.sha256(b"a").hexdigest(),
    }
    (tmp_path / "model.json").write_text("{}")
    assert provenance.fingerprint(tmp_path) == {"model.json": hashlib.sha256(b"{}").hexdigest()}


def _git(folder, *command):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True)


def test_code_version_of_a_checkout_clean_and_dirty(tmp_path):
    _git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    _git(tmp_path, "add", "a")
    _git(tmp_path, "commit", "-m", "x")
    _git(tmp_path, "tag", "-a", "v1", "-m", "v1")
    assert provenance.code_version(tmp_path) == "v1"
    (tmp_path / "a").write_text("2")
    assert provenance.code_version(tmp_path) == "v1-dirty"


def test_code_version_outside_a_checkout_or_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.code_version(tmp_path) == "unknown"
    monkeypatch.setenv("PATH", "")
    assert provenance.code_version() == "unknown"


def test_code_version_of_what_was_packed_without_its_history(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "WRITTEN", tmp_path / "code_version.txt")
    provenance.WRITTEN.write_text("v1-3-gabc\n")
    assert provenance.code_version() == "v1-3-gabc"


def test_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert provenance.threads()["omp_num_threads"] == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert provenance.threads()["omp_num_threads"] is None
