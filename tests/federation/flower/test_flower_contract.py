"""What we rely on in Flower's internals; a new Flower must pass this before the pin moves."""

import inspect
from importlib.metadata import version

import yaml
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE, TIMESTAMP_HEADER
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.fab import Fab
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.supercore.state.schema.corestate_models import Fab as FabTable
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.start_client_internal import _verify_fab

from fedcall.federation.flower import fleet, superlink
from fedcall.federation.flower.app_bundle import app_bundle, app_hash, pin_app, read_pins
from fedcall.federation.flower.gate import CALLS, CHUNK_BYTES


def test_flower__is_the_pinned_version():
    assert version("flwr").split(".")[:2] == ["1", "41"]


def test_flower__fleet_client_has_the_calls_we_make():
    for name in ("ActivateNode", "DeactivateNode", "PullMessages", "PushMessages", "SendNodeHeartbeat", "PullObject"):
        assert callable(getattr(FleetHttpClient, name))


def test_flower__a_node_tells_its_name_and_when_it_came():
    assert {"name", "node_id", "last_activated_at"} <= set(NodeInfo.DESCRIPTOR.fields_by_name)


def test_fleet__never_asks_for_code():
    source = inspect.getsource(fleet)
    for word in ("GetFab", "GetRun", "get_fab", "clientapp", "importlib", "exec("):
        assert word not in source.replace("clientapp_runtime_list", "")


def test_superlink__is_told_to_stay_on_loopback_and_check_nodes():
    source = inspect.getsource(superlink)
    for word in ('"--host", "127.0.0.1"', "--enable-supernode-auth", "--disable-runtime-dependency-installation"):
        assert word in source


def test_flower__serves_the_calls_that_the_gate_lets_in():
    assert {("POST", call) for call in CALLS} <= set(PROTOBUF_REQUEST_TYPES)


def test_flower__splits_arrays_into_chunks_that_the_gate_lets_in():
    assert FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE == CHUNK_BYTES


def test_flower__signs_the_headers_that_the_gate_looks_at():
    signed = (FLEET_HTTP_PUBLIC_KEY_HEADER, TIMESTAMP_HEADER, FLEET_HTTP_SIGNATURE_HEADER)
    assert signed == ("flwr-public-key", "flwr-timestamp", "flwr-signature")


def test_flower__verifies_apps_as_a_pin_signs_them(tmp_path):
    pin = pin_app(app_hash(), tmp_path)
    trusted = yaml.safe_load((tmp_path / "trusted.yaml").read_text())
    assert _verify_fab(Fab(app_hash(), app_bundle(), read_pins([pin])), trusted)
    assert not _verify_fab(Fab("", app_bundle() + b" ", read_pins([pin])), trusted)


def test_flower__keeps_apps_where_we_store_their_signatures():
    assert {"fab_hash", "verifications"} <= set(FabTable.__table__.columns.keys())
    assert FabTable.__tablename__ == "fab"
