"""Evidence that a program runs in a processor's protected enclave: read, verified offline, refused by default.

Three kinds of evidence: reports of AMD SEV-SNP (verified here), quotes of Intel SGX and TDX (verified by dcap-qvl, and
here where it looks past something), and reports of a simulated platform, for rehearsals and tests, whose root no policy
of a real platform can accept.
"""
