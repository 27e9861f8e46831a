"""The example files for systemd and nginx are what those programs accept, and name commands that exist."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from consortium import make_consortium
from fedcall.federation.certificates import ensure_certificates

FOLDER = Path(__file__).parents[3] / "docs" / "aggregator"


@pytest.mark.parametrize("name", ["aggregator", "helper"])
def test_unit__is_accepted_by_systemd(tmp_path, name):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    text = (FOLDER / f"fedcall-{name}.service").read_text()
    unit = tmp_path / f"fedcall-{name}.service"
    unit.write_text(text.replace("/srv/fedcall/.venv/bin/fedcall", "/bin/true").replace("User=fedcall", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "fedcall" not in done.stderr


@pytest.mark.parametrize("name", ["aggregator", "helper"])
def test_unit__names_options_that_exist(name):
    text = (FOLDER / f"fedcall-{name}.service").read_text().replace("\\\n", "")
    command = shlex.split(re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1])
    from typer.main import get_command

    from fedcall.cli import app, commands

    if not app.registered_groups:
        commands.register(app)
    serve = get_command(app).commands[name].commands["serve"]
    known = {option for parameter in serve.params for option in parameter.opts}
    assert command[1:3] == [name, "serve"]
    assert {word for word in command if word.startswith("--")} <= known


def test_nginx__accepts_the_example(tmp_path):
    if shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip("needs nginx")
    consortium = make_consortium(tmp_path)
    certificates = ensure_certificates(consortium.state, ())
    text = (FOLDER / "nginx.conf").read_text()
    for path, found in {
        "/etc/ssl/aggregator.example.org.pem": certificates.server,
        "/etc/ssl/private/aggregator.example.org.key": certificates.server_key,
        "/srv/fedcall/state/ca.crt": certificates.authority,
    }.items():
        assert path in text
        text = text.replace(path, str(found))
    whole = tmp_path / "nginx.conf"
    whole.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}\nhttp {{ access_log off;\n"
        f"client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy; fastcgi_temp_path {tmp_path}/f;\n"
        f"uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n{text}\n}}\n"
    )
    done = subprocess.run(
        ["/usr/sbin/nginx", "-t", "-c", whole], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
