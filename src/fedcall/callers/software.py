"""Which program made calls, by what their header says."""

import re
from pathlib import Path

from pydantic import Field

from fedcall.documents import Document
from fedcall.genomics.vcf.rows import VcfFile, open_rows
from fedcall.shown import shown

VERSION_KEY = "fedcall_caller"
IMAGE_KEY = "fedcall_caller_image"
_STATED = re.compile(r"(?:\(GATK\)|DeepVariant version|version:)\s*v?([0-9][\w.+-]*)", re.IGNORECASE)
_NUMBER = re.compile(r"\bv?([0-9]+(?:\.[0-9]+)+[\w.+-]*)")
_GATK = re.compile(r"ID=HaplotypeCaller.*?Version=\"?v?([0-9][\w.+-]*)")
UNKNOWN = "unknown version"


class CallerSoftware(Document):
    """A caller by its name in a report, and the program behind it."""

    caller: str
    software: str | None = Field(None, description="Program and version; null: the header of the calls does not say.")
    image: str | None = Field(
        None, description="Container it ran in, with the SHA-256 of the image file; null: it ran outside of one."
    )


def stated_version(text: str) -> str:
    """Return the version in what a tool prints when it is asked for it.

    Examples
    --------
    >>> stated_version("The Genome Analysis Toolkit (GATK) v4.6.2.0\\nHTSJDK Version: 4.2.0\\n")
    '4.6.2.0'
    >>> stated_version("DeepVariant version 1.10.0"), stated_version("version:  v1.3.6\\n")
    ('1.10.0', '1.3.6')
    """
    found = _STATED.search(text) or _NUMBER.search(text)
    return found[1] if found else UNKNOWN


def software_of(calls: Path, caller: str) -> CallerSoftware:
    """Return what the header of a VCF says about the program that wrote it.

    Errors are those of `open_rows`.
    """
    with open_rows(calls) as vcf:
        software = _software(vcf)
        image = vcf.meta_value(IMAGE_KEY)
    return CallerSoftware(caller=caller, software=software and shown(software, 100), image=image and shown(image, 300))


def _software(vcf: VcfFile) -> str | None:
    collected = vcf.meta_value(VERSION_KEY)
    if collected is not None:
        return collected
    deepvariant = vcf.meta_value("DeepVariant_version")
    if deepvariant is not None:
        return f"deepvariant {deepvariant}"
    for line in vcf.meta:
        gatk = _GATK.search(line) if line.startswith("##GATKCommandLine") else None
        if gatk:
            return f"gatk {gatk[1]}"
    bcftools = vcf.meta_value("bcftools_callVersion")
    if bcftools is not None:
        return f"bcftools {bcftools}"
    return vcf.meta_value("source")
