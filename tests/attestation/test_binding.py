"""What evidence is bound to: every field counts, and a head of a log is no other field's text."""

import hashlib

from fedcall.attestation.binding import Binding, report_data

BOUND = Binding(nonce="01" * 32, tls_key="02" * 32, hpke_key="03" * 32, study="04" * 32)


def test_report_data__every_field_changes_it():
    heads = [BOUND, BOUND.model_copy(update={"log_head": "05" * 32}), BOUND.model_copy(update={"log_head": "06" * 32})]
    others = [BOUND.model_copy(update={name: "ff" * 32}) for name in ("nonce", "tls_key", "hpke_key", "study")]
    assert len({report_data(one) for one in (*heads, *others)}) == 7
    assert len(report_data(BOUND)) == 64


def test_report_data__without_a_head_is_that_of_older_records():
    fields = (bytes([value]) * 32 for value in (1, 2, 3, 4))
    digest = hashlib.sha512(b"fedcall evidence 1\0")
    for field in fields:
        digest.update(len(field).to_bytes(4, "big") + field)
    assert report_data(BOUND) == digest.digest()
    assert b"log_head" not in BOUND.canonical()
