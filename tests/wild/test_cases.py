"""Every case of `../shared/cases` (what fedcall once did wrong with other people's files) has its test.

| case | what it is | its tests |
|---|---|---|
| 01_cg_tag | more than 65,535 CIGAR operations, in the tag CG | `tests/genomics/reads/test_plain_records.py::test_calls__a_cigar_in_the_cg_tag` |
| 02_dense_snps | three or more SNPs within ten bases | `tests/genomics/pileup/test_dense_variants.py::test_calls__several_snps_within_a_few_bases` |
| 03_seq_equals | `=` in SEQ | `tests/genomics/reads/test_plain_records.py::test_calls__equals_signs_are_reference_bases` |
| 04_same_names_single_end | single reads of one name, lanes numbered alike | `tests/genomics/reads/test_other_peoples_alignments.py::test_normalise_alignments__single_reads_of_one_name_stay_single` `tests/genomics/reads/test_other_peoples_alignments.py::test_normalise_alignments__pairs_of_lanes_that_number_alike` |
| 05_two_samples | two people in one BAM | `tests/genomics/reads/test_other_peoples_alignments.py::test_open_alignments__two_people_in_one_file` |
| 06_amplicon_duplicates | all fragments begin alike, UMIs | `tests/genomics/reads/test_other_peoples_alignments.py::test_normalise_alignments__amplicons_keep_their_reads` `tests/genomics/reads/test_duplicates.py::test_normalise_alignments__reads_of_other_umis_are_no_copies` |
| 07_deletion_over_ambiguous_base | R or N of the reference is deleted | `tests/genomics/reads/test_plain_records.py::test_calls__a_deletion_over_an_ambiguous_base` |
| 09_concordance_duplicates | the same record twice | `tests/genomics/vcf/test_odd_files.py::test_compare__a_repeated_record_is_one_statement` |
| 11_sheet_stray_quote | a quotation mark that swallows rows | `tests/workflow/test_sheet_files.py::test_read_samples__a_stray_quotation_mark_swallows_nothing` |
| 12_one_file_two_patients | one BAM, two patients | `tests/workflow/test_sheet_files.py::test_check_rows__one_file_of_reads_is_one_person` `tests/workflow/test_people.py::test_promise_2__one_bam_in_three_splits_is_refused` |
| 14_confident_regions_unsure_inside | an unsure record inside a sure block; no END, no GQ | `tests/genomics/vcf/test_odd_files.py::test_write_confident_regions__what_one_record_is_unsure_about` `tests/genomics/truth/test_confident_regions.py::test_write_confident_regions__blocks_without_end_as_of_vcf_4_5` |
| 20_gzip_vcf | gzip in place of bgzip | `tests/genomics/vcf/test_odd_files.py::test_normalise_labels__compressed_either_way` `tests/genomics/vcf/test_gzipped_bcf.py::test_open_rows__a_bcf_that_is_not_bgzipped_is_read` |
| 21_malformed_vcf_records | blank, short and odd lines | `tests/genomics/vcf/test_odd_files.py::test_read_rows__malformed_rows_name_their_place` |
| 22_concordance_field_types | AD, DP, GQ of other types | `tests/genomics/vcf/test_odd_files.py::test_compare__fields_of_other_types_count_as_missing` |
| 23_sheet_encodings | UTF-16, Latin-1, byte order mark, emptied rows | `tests/workflow/test_sheet_files.py::test_read_samples__harmless_differences` `tests/workflow/test_sheet_files.py::test_read_samples__refuses_in_one_line` |
| 30_gatk_gvcf_as_annotations | AS_ annotations of GATK | `tests/genomics/vcf/test_odd_files.py::test_read_rows__headers_need_not_fit` |
| 31_undeclared_tags | tags and filters that the header lacks | `tests/genomics/vcf/test_odd_files.py::test_read_rows__headers_need_not_fit` |
| 32_no_contig_lines | a header without contigs | `tests/genomics/vcf/test_odd_files.py::test_read_rows__headers_need_not_fit` `tests/genomics/vcf/test_odd_files.py::test_compare__no_contig_in_common_is_refused_without_contig_lines` |
| 33_one_odd_record | N, R, ALT = REF, POS 0 | `tests/genomics/vcf/test_odd_files.py::test_read_rows__one_odd_record_costs_no_other` |
| 34_genotype_beyond_alt | a genotype of an allele that is not there | `tests/genomics/vcf/test_odd_files.py::test_read_rows__one_odd_record_costs_no_other` |
| 35_sample_name_comma | `a,b` and `^a` are names | `tests/genomics/vcf/test_odd_files.py::test_normalise_labels__any_name_is_a_name` |
| 36_check_reads_no_file | what `fedcall check` promises | `tests/workflow/test_input_files.py::test_check_input_files__one_line_that_names_file_and_patient` `tests/workflow/test_input_files.py::test_check_input_files__a_csi_under_either_name` |
| 38_empty_reads | a read of no bases | `tests/genomics/reads/test_other_peoples_alignments.py::test_align_reads__a_read_of_no_bases_is_unmapped` |
| 40_contig_over_512_mb | a contig that no .bai can hold | `tests/workflow/test_long_contig.py::test_workflow__on_a_contig_over_512_mb_makes_and_uses_csi` `tests/workflow/test_long_contig.py::test_call__on_a_contig_over_512_mb_in_shards` |
| 41_many_contigs_slow | thousands of contigs | `tests/genomics/pileup/test_many_contigs.py::test_extract_examples__of_many_contigs` `tests/genomics/reads/test_short_contigs.py::test_extract_examples__many_contigs_take_few_calls` |
| 42_more_reads_less_belief | the deeper, the less believed | `tests/genomics/pileup/test_more_carriers.py::test_log_likelihoods__all_reads_carry_it_at_any_depth` `tests/genomics/pileup/test_more_carriers_of_haplotypes.py::test_extract_examples__further_carriers_never_favour_the_reference` `tests/genomics/calling/test_more_carriers_of_calls.py::test_calls__are_surer_with_every_further_carrier` |
"""  # noqa: E501

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [line.split(" | ") for line in (__doc__ or "").splitlines() if re.match(r"\| \d\d_", line)]
TESTS = {row[0].removeprefix("| "): re.findall(r"`(tests/[^`]+)::([^`]+)`", row[2]) for row in ROWS}


@pytest.mark.parametrize("case", TESTS)
def test_case__has_tests_that_exist(case: str) -> None:
    assert TESTS[case]
    for path, name in TESTS[case]:
        found = [node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)]
        assert name in found, f"{path} has no {name}"


def test_cases__every_one_of_the_folder_has_its_row() -> None:
    folder = ROOT.parent / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(TESTS)
