"""Make a patient's table of base qualities from mismatches in the patient's own reads, without labels."""
