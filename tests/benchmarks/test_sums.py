"""Benchmarks of opened sums run, and refuse a sum that is not the one in the clear."""

from encrypted_consortium import needs_openfhe
from fedcall.benchmarks import encrypted_sum, masked_sum


def test_benchmark_masked_sum__compares_with_plain_averaging():
    found = masked_sum.benchmark_masked_sum(2, 2000, 1)
    assert (found.sites, found.parameters) == (2, 2000)
    assert found.upload_bytes > 4 * 2000
    assert "times plain averaging" in masked_sum.as_text(found)


@needs_openfhe
def test_benchmark_encrypted_sum__stands_beside_masked_sealed_and_plain():
    found = encrypted_sum.benchmark_encrypted_sum(2, 2000, 1)
    assert found.upload_ratio > 10
    papers = found.encrypted.helper_download_bytes - 2 * found.encrypted.upload_bytes
    assert 2000 < papers < 10_000  # the order, and what sites signed: as much as a helper of masks gets
    assert abs(papers - found.masked.helper_download_bytes) < 1000
    assert found.encrypted.taken_in(2, 2) == 2 * (found.encrypted.upload_bytes + found.encrypted.helper_answer_bytes)
    assert (found.plain.given_out(2), found.masked.given_out(2)) == (0, 2 * found.masked.helper_download_bytes)
    assert found.masked.helper_answer_bytes == 4 * 2000
    text = encrypted_sum.as_text(found)
    assert found.sealed.upload_bytes == found.plain.upload_bytes + 56
    assert "plain       sealed       masked    encrypted" in text
    assert max(map(len, text.splitlines())) <= 80
