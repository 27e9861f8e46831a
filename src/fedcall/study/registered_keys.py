"""Whether keys in a folder are those that a study registers for a site: asked before anything is trained or sent."""

from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.keys import SiteIdentity, read_identity
from fedcall.study.terms import Study


def require_registered(study: Study, site: str, keys: Path, visits: bool = False) -> SiteIdentity:
    """Return the public half of a site's keys, which must be the one its study registers.

    Parameters
    ----------
    visits : bool
        Compare the key of the site's Flower node, too, with which it visits the aggregator.

    Raises
    ------
    FedcallError
        If the study has no such site, there are no keys, or they are others.
    """
    registered, identity = study.site(site), read_identity(keys)
    # An OpenSSH public key ends in a comment, which says nothing.
    other_node = visits and identity.node_key.split()[:2] != registered.node_key.split()[:2]
    if identity.public_key != registered.public_key or other_node:
        raise FedcallError(
            f"{keys} holds other keys than study '{study.name}' registers for site '{site}' (those of"
            f" '{identity.name}'); name the folder whose site.json the coordinator has"
        )
    return identity
