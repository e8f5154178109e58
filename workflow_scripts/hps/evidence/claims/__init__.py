"""The paper's claims as statements about tables, evaluated on the paper's own numbers and on ours."""
