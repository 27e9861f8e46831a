"""Known genotypes of a patient: brought into one form, and made into labels."""
