"""Keys in a folder against those that a study registers."""

import json

import pytest

from consortium import make_consortium
from fedcall.errors import FedcallError
from fedcall.study.registered_keys import require_registered


def test_require_registered__own_keys_and_a_comment_behind_the_node_key(tmp_path):
    consortium = make_consortium(tmp_path)
    public = consortium.keys("north") / "site.json"
    assert require_registered(consortium.study, "north", public.parent, visits=True).name == "north"
    content = json.loads(public.read_text())
    public.write_text(json.dumps(content | {"node_key": content["node_key"].split(" #")[0] + " root@laptop"}))
    require_registered(consortium.study, "north", public.parent, visits=True)


@pytest.mark.parametrize("key", ["public_key", "node_key"])
def test_require_registered__another_sites_key_of_either_kind(tmp_path, key):
    consortium = make_consortium(tmp_path)
    mine, theirs = (consortium.keys(site) / "site.json" for site in ("north", "south"))
    mine.write_text(json.dumps(json.loads(mine.read_text()) | {key: json.loads(theirs.read_text())[key]}))
    with pytest.raises(FedcallError, match=r"holds other keys than study .* registers for site 'north'") as refusal:
        require_registered(consortium.study, "north", mine.parent, visits=True)
    assert "\n" not in str(refusal.value)


def test_require_registered__a_site_the_study_does_not_have(tmp_path):
    consortium = make_consortium(tmp_path)
    with pytest.raises(FedcallError, match="site 'west' is not part of study"):
        require_registered(consortium.study, "west", consortium.keys("north"))
