"""What we rely on in Flower's internals; a new Flower must pass this before the pin moves."""

import inspect
from importlib.metadata import version

from flwr.proto.node_pb2 import NodeInfo
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedcall.federation import fleet, superlink


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
