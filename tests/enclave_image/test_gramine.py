"""The manifest for SGX, as far as it can be checked without Gramine: it renders, parses, and trusts the image alone."""

import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from jinja2 import Environment, StrictUndefined

import fedcall.enclave_image
from fedcall.enclave_image.init import Machine, command
from fedcall.enclave_image.recipe import image_tree

TEMPLATE = Path(fedcall.enclave_image.__file__).with_name("fedcall.manifest.template")


@pytest.fixture(scope="module")
def manifest() -> dict:
    gramine = SimpleNamespace(libos="/gramine/libsysdb.so", runtimedir=lambda: "/gramine/runtime")
    rendered = Environment(undefined=StrictUndefined).from_string(TEMPLATE.read_text())
    return tomllib.loads(rendered.render(gramine=gramine, tree="tree", lent="lent", name="fedcall.example.org"))


def test_manifest__measures_the_image_and_nothing_of_the_host(manifest):
    outside = {"file:/gramine/libsysdb.so", "file:/gramine/runtime/"}
    trusted = set(manifest["sgx"]["trusted_files"]) - outside
    assert trusted == {"file:tree/usr/", "file:tree/etc/"}
    assert manifest["sgx"]["allowed_files"] == ["file:lent/"]
    top = {path.partition("/")[0] for path, _ in image_tree(())[0].files()}
    assert {uri.removeprefix("file:tree/").rstrip("/") for uri in trusted} <= top


def test_manifest__is_no_debugging_enclave_and_reads_nothing_from_the_host(manifest):
    assert (manifest["sgx"]["debug"], manifest["sgx"]["remote_attestation"]) == (False, "dcap")
    assert not [key for part in ("loader", "sys", "sgx") for key in manifest[part] if key.startswith("insecure__")]
    assert all(isinstance(value, str) for value in manifest["loader"]["env"].values()), "none is passed through"


def test_manifest__runs_what_the_images_first_program_runs(manifest):
    words = command("sgx", Machine("192.0.2.7", 24, "192.0.2.1", 8443, ("fedcall.example.org",)))
    at = words.index("192.0.2.7")
    expected = words[1 : at - 1] + words[at + 1 :]
    assert manifest["loader"]["argv"][1:-2] == expected
    assert manifest["libos"]["entrypoint"] == manifest["loader"]["argv"][0]
